"""Runs a node that a page shows, on free ports of the loopback."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.docs.pages import ROOT
from tests.node.test_cli_document import COMMAND

QUIET = ("--peer-host", "127.0.0.1", "--peer-port", "0", "--discovery", "no")


def readiness_of(words: Sequence[str], *, limit_s: float = 60, umask: int = 0o077) -> dict[str, Any]:
    """Start a node by the words after `energy-ledger`; return its first line, and end it in good order."""
    with subprocess.Popen(
        [*COMMAND, *words, *QUIET],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        umask=umask,
    ) as process:
        try:
            assert process.stdout is not None
            ready: dict[str, Any] = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(limit_s) == 0
        finally:
            process.kill()
    return ready
