"""The command `script/demo`."""

import argparse
import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from demo import bargains, table, verdict
from demo.assistant import AssistantError
from demo.extras import ExtrasError, ensure_extras
from demo.journal import Journal
from demo.resident import PASSWORD
from demo.rest import RestError
from demo.street import SLOT_S, Street
from ledger_core.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.journal import Deal

_EPILOG = """\
It starts three real Home Assistants with their ledger nodes and simulated Modbus devices, lets them found a
community with slots of a minute and trade with each other, and shows what happens. Everything listens on
127.0.0.1 alone. Ctrl-C ends all of it. The first start takes longer: what the web interface needs is
installed.
"""
# From the first offer to the last settlement: two windows, the grace of a minute, and some patience.
SECONDS_TO_SETTLE = 600
_FAILURES = (AssistantError, ExtrasError, LedgerError, OSError, RestError, aiohttp.ClientError)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="script/demo",
        description="Watch three homes trade energy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument(
        "--once",
        action="store_true",
        help="end when three trades of different kinds are settled at all homes, and check the books",
    )
    arguments.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep the homes' configurations and logs in a new folder; after a failure they are always kept",
    )
    return arguments


class Demo:
    """One run of the demo."""

    def __init__(self, folder: Path, packages: Path, *, once: bool) -> None:
        """Prepare in a folder."""
        self._once = once
        self._started = self._said = time.monotonic()
        self._live = table.LiveTable()
        self._street = Street(folder, packages, self._say)
        self._changed = asyncio.Event()
        self._journal = Journal(self._changed.set, SLOT_S)

    def _say(self, text: str) -> None:
        self._live.leave()
        now = time.monotonic()
        print(f"[{now - self._started:5.1f} s, +{now - self._said:.1f}] {text}", flush=True)
        self._said = now

    async def run(self) -> bool:
        """Run until the end, or until it is cancelled; return whether all was as it should be."""
        try:
            await self._street.start()
            for resident in self._street.residents:
                resident.listen(self._journal.heard)
            self._tell_addresses()
            self._say("the homes get rules and automations by which they trade, and their switches go on")
            await bargains.set_up(self._street)
            while True:
                deals = await self._round()
                if self._once:
                    return await self._judge(deals)
        finally:
            self._say("ending everything")
            await self._street.stop()

    def _tell_addresses(self) -> None:
        self._live.leave()
        print()
        for resident in self._street.residents:
            print(
                f"  {resident.house.name:16} {resident.assistant.url}   "
                f"user {resident.user}, password {PASSWORD}"
            )
        print(flush=True)

    async def _round(self) -> list[Deal]:
        """Let offers be made, and show how they go; return what was due once each kind is settled."""
        self._say("two offers are posted by hand for the next minutes; the rules offer by themselves")
        already = len(self._journal.deals)
        async for offer in bargains.make_offers(self._street, SLOT_S):
            self._journal.add(offer)
        due: list[Deal] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_SETTLE):
                while not due or not all(deal.done for deal in due):
                    self._changed.clear()
                    await self._show()
                    await self._changed.wait()
                    due = due_of(self._journal.deals[already:])
        await self._show()
        return due or self._journal.deals[already:]

    async def _show(self) -> None:
        """Show how the newest deals stand, with what rules decided."""
        shown = self._journal.deals[-9:]
        if any(deal.offer.kind == bargains.POSTED and not deal.why for deal in shown):
            why = await bargains.reasons(self._street)
            for deal in shown:
                deal.why = deal.why or why.get(deal.offer.record, "")
        names = {each.address: each.house.name for each in self._street.residents}
        self._live.show(table.text_of(table.rows(shown, names)))

    async def _judge(self, deals: list[Deal]) -> bool:
        """Check the books of the first round, say what was found, and return whether it is right."""
        self._live.leave()
        self._say("checking the books")
        findings = [
            *verdict.judge(deals),
            *(comparison.finding for comparison in verdict.compare(self._street, deals)),
            await verdict.equal_state_hashes(self._street),
            *await verdict.accounts(self._street, self._journal.deals),
        ]
        for finding in findings:
            print(f"  {finding.text}")
        paid = sum(line.paid_micro for deal in deals for line in deal.settled)
        delivered = sum(line.delivered_wh for deal in deals for line in deal.settled)
        kinds = {deal.offer.kind for deal in deals}
        good = kinds == set(bargains.KINDS) and all(finding.good for finding in findings)
        end = "as agreed" if good else "WRONG, see above"
        print(f"  delivered {delivered} Wh, paid {paid / 1_000_000:.6f} EUR: {end}", flush=True)
        return good


def due_of(deals: Sequence[Deal]) -> list[Deal]:
    """Return the deals up to the end of the latest kind's first window; none while a kind is missing."""
    first = [next((deal for deal in deals if deal.offer.kind == kind), None) for kind in bargains.KINDS]
    ends = [deal.offer.end for deal in first if deal is not None]
    return [deal for deal in deals if deal.offer.end <= max(ends)] if len(ends) == len(first) else []


async def _run(folder: Path, packages: Path, *, once: bool) -> int:
    """Run the demo until its end or a signal; return the exit code."""
    task = asyncio.ensure_future(Demo(folder, packages, once=once).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return 0 if await task else 1
    except asyncio.CancelledError:
        return 0 if not once else 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    kept: Path | None = options.keep
    try:
        if kept is not None:
            kept.mkdir(parents=True)
        folder = kept or Path(tempfile.mkdtemp(prefix="energy-ledger-demo-"))
    except FileExistsError:
        print(f"demo: {kept} is there already; name a new folder", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    code = 1
    try:
        code = asyncio.run(_run(folder, ensure_extras(), once=options.once))
    except _FAILURES as error:
        print(f"demo: {error}", file=sys.stderr)
    finally:
        if code == 1 and any(folder.iterdir()):
            # What failed is told by the homes' logs.
            print(f"demo: the homes' configurations and logs are in {folder}", file=sys.stderr)
        elif kept is None:
            shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
