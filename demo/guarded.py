"""Run Home Assistant's own command, and end it when the process that started it is gone.

    python -m demo.guarded ARGUMENT...     the same arguments as `hass`

The starter keeps a pipe to our standard input open. When it dies, by whatever means, the pipe closes, and
Home Assistant is asked to stop as by SIGTERM; if it does not in time, the process ends at once.
"""

import os
import signal
import sys
import threading
import time

SECONDS_TO_STOP = 30


def _end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os._exit(1)


def main() -> int:
    """Run `hass` with our arguments; return its exit code."""
    threading.Thread(target=_end_with_starter, name="end with starter", daemon=True).start()
    from homeassistant.__main__ import main as hass  # noqa: PLC0415  # heavy; the guard stands first

    return hass()


if __name__ == "__main__":
    sys.exit(main())
