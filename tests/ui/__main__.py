"""The command `script/test-ui`."""

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from demo.extras import ensure_extras
from tests.ui.walk import say, walk

SECONDS = 600


def main() -> int:
    """Walk through the web interface; return the exit code."""
    arguments = argparse.ArgumentParser(
        prog="script/test-ui",
        description="Drive a real Home Assistant with a browser, from an empty configuration to its devices.",
    )
    arguments.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="keep the screenshots here (default: nowhere)"
    )
    arguments.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the configuration and log here")
    options = arguments.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="energy-ledger-ui-") as scratch:
        pictures: Path = options.pictures or Path(scratch) / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        folder: Path = options.keep or Path(scratch)
        work = walk(folder, pictures, ensure_extras())
        taken = asyncio.run(asyncio.wait_for(work, SECONDS))
    say(f"passed, {len(taken)} screenshots")
    return 0


if __name__ == "__main__":
    sys.exit(main())
