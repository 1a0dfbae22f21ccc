"""Chromium, driven by Playwright: started with nothing of its own reaching out, pages of one fixed size."""

import contextlib
import shutil
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SIZE = (1280, 860)
_MILLISECONDS_TO_WAIT = 60_000

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-default-apps",
    "--force-color-profile=srgb",
    # Nothing outside: every name but the loopback's resolves to nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)


def find_chromium() -> str:
    """Return the path of a Chromium on this machine; raises FileNotFoundError that says what to install."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no Chromium here; install the package chromium")


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Give a headless browser."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, args=list(_FLAGS)
        )
        try:
            yield started
        finally:
            await started.close()


async def new_page(started: Browser, language: str = "en-GB") -> Page:
    """Return a page with nothing stored, as a new user's browser has it."""
    context = await started.new_context(
        viewport={"width": SIZE[0], "height": SIZE[1]},
        locale=language,
        timezone_id="Europe/Berlin",
        color_scheme="light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(_MILLISECONDS_TO_WAIT)
    return await context.new_page()
