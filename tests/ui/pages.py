"""What a user does in Home Assistant's web interface, by the words and fields that are on the screen."""

import asyncio
import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from playwright.async_api import Locator, Page

# Marks the form field of a name, wherever in the shadow trees it stands; the topmost open dialog's wins.
_MARK_FIELD = """
name => {
  const found = [];
  const walk = root => {
    for (const element of root.querySelectorAll('*')) {
      if (element.localName.startsWith('ha-selector') && element.name === name) found.push(element);
      else if (element.localName.startsWith('ha-form-') && element.schema?.name === name) found.push(element);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  const outer = found.find(element => element.localName === 'ha-selector') ?? found.at(-1);
  if (!outer) return null;
  outer.setAttribute('data-field', name);
  return {kind: outer.localName === 'ha-selector' ? Object.keys(outer.selector)[0] : outer.schema.type};
}
"""


class PageError(Exception):
    """The screen does not show what should be there."""


@dataclass(slots=True)
class Ui:
    """A browser's page on one Home Assistant; `shot` keeps a picture of it under a name."""

    page: Page
    url: str
    pictures: Path
    taken: list[str] = field(default_factory=list)

    async def shot(self, name: str) -> None:
        """Keep a picture of the page, once it has come to rest; few colours make it small."""
        await self.rest()
        picture = Image.open(BytesIO(await self.page.screenshot(animations="disabled"))).convert("RGB")
        await asyncio.to_thread(picture.quantize(128).save, self.pictures / f"{name}.png", optimize=True)
        self.taken.append(name)

    async def rest(self) -> None:
        """Wait until the page does nothing more that can be seen: two pictures in a row are equal."""
        last = b""
        for _ in range(20):
            await self.page.wait_for_timeout(150)
            now = await self.page.screenshot(animations="disabled")
            if now == last:
                return
            last = now

    # --- onboarding and going about -----------------------------------------------------------------------

    async def onboard(self, *, name: str, user: str, password: str) -> None:
        """Go through Home Assistant's own first steps."""
        page = self.page
        await page.goto(self.url)
        await page.get_by_role("button", name="Create my smart home").click()
        for label, value in (("name", name), ("username", user), ("password", password)):
            await page.locator(f'input[name="{label}"]').fill(value)
        await page.locator('input[name="password_confirm"]').fill(password)
        await page.get_by_role("button", name="Create account").click()
        await page.get_by_text("Home location").wait_for()
        await self._next()
        await page.get_by_text("Country", exact=False).first.wait_for()
        await self._next()
        await page.get_by_text("Help us to help you").wait_for()
        await self._next()
        await page.get_by_role("button", name="Finish").click()
        await page.wait_for_url("**/home/**")
        await page.get_by_text("Settings", exact=True).wait_for()

    async def _next(self) -> None:
        await self.rest()
        await self.page.get_by_role("button", name="Next").click()

    async def log_in(self, *, user: str, password: str) -> None:
        """Log in at the login page."""
        await self.page.goto(self.url)
        await self.page.locator('input[name="username"]').fill(user)
        await self.page.locator('input[name="password"]').fill(password)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.get_by_text("Settings", exact=True).wait_for()

    async def go(self, path: str) -> None:
        """Open a page of the interface."""
        await self.page.goto(f"{self.url}{path}")
        await self.rest()

    # --- dialogs ------------------------------------------------------------------------------------------

    async def add_integration(self, name: str) -> None:
        """Begin to add an integration, as far as its first form."""
        await self.go("/config/integrations/dashboard")
        await self.page.get_by_role("button", name="Add integration").last.click()
        await self.page.get_by_placeholder("Search for a brand name").fill(name)
        await self.page.get_by_text(name, exact=True).first.click()
        await self.rest()

    async def field(self, name: str) -> tuple[str, Locator]:
        """Return the kind and the place of a form's field by its name; raises PageError without one."""
        for _ in range(600):
            found = await self.page.evaluate(_MARK_FIELD, name)
            if found:
                return found["kind"], self.page.locator(f'[data-field="{name}"]')
            await self.page.wait_for_timeout(100)
        raise PageError(f"no field {name!r} on the screen: {await self.words()}")

    async def fill(self, values: Mapping[str, Any]) -> None:
        """Fill in fields of a form by name: texts, numbers, switches and choices (by their value)."""
        for name, value in values.items():
            kind, place = await self.field(name)
            await self._fill_one(kind, place, value)

    async def _fill_one(self, kind: str, place: Locator, value: Any) -> None:
        if kind == "boolean":
            switch = place.locator("ha-switch, ha-checkbox, input[type=checkbox]").first
            if await switch.evaluate("element => element.checked") != value:
                await switch.click()
        elif kind == "select":
            # What the box tells its form when a user has chosen; its list is drawn outside of the form.
            await place.evaluate(_CHOOSE, value)
        else:
            box = place.locator("textarea:not([aria-hidden]), input").first
            await box.fill(str(value))
            await box.blur()

    async def open_section(self, title: str) -> None:
        """Open a collapsed section of a form."""
        await self.page.get_by_text(title, exact=True).first.click()
        await self.rest()

    async def press(self, label: str) -> None:
        """Press the button of a label, or choose it from a menu."""
        page = self.page
        found = page.get_by_role("button", name=label, exact=True).or_(page.get_by_text(label, exact=True))
        await found.and_(page.locator(":visible")).last.click()
        await self.rest()

    async def finish(self) -> None:
        """Close the dialog that tells of a flow's success."""
        button = self.page.get_by_role("button", name=re.compile("finish", re.IGNORECASE)).last
        await button.click()
        await self.rest()

    async def expect(self, text: str) -> None:
        """Wait until a text is on the screen."""
        await self.page.get_by_text(text).first.wait_for()

    async def words(self) -> str:
        """Return every word on the screen, for messages."""
        return str(await self.page.evaluate(_WORDS))[:1500]


_CHOOSE = """
(element, value) => element.dispatchEvent(
  new CustomEvent('value-changed', {detail: {value}, bubbles: true, composed: true}))
"""

_WORDS = """
() => {
  const parts = [];
  const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) { const t = node.data.trim(); if (t) parts.push(t); return; }
    if (node.localName === 'style' || node.localName === 'script') return;
    if (node.localName === 'slot') { for (const n of node.assignedNodes()) walk(n); return; }
    if (node.nodeType === Node.ELEMENT_NODE && getComputedStyle(node).display === 'none') return;
    for (const child of (node.shadowRoot ?? node).childNodes) walk(child);
  };
  walk(document.body);
  return parts.join(' | ');
}
"""
