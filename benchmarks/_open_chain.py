"""A fresh process that opens a chain as a node does at its start: `python -m benchmarks._open_chain [DIR]`.

Prints one JSON object: its peak of resident memory and where the chain stands. Without a directory it only
imports what the other needs: the raw limit of both.
"""

import json
import sys
from pathlib import Path

from ledger_core.chain.chain import Chain
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.verify import Verifier


def peak_mib() -> float:
    """Return the highest resident memory of this process so far, MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell a process's memory")


def main(arguments: list[str]) -> None:
    """Open the chain and tell what it took."""
    found: dict[str, float | str] = {}
    if arguments:
        with open_store(Path(arguments[0])) as store, Verifier(1) as verifier:
            chain = Chain.open(store, verifier)
            snapshots = store.snapshots()
            found = {
                "height": chain.height,
                "tip": chain.tip_hash.hex(),
                "replayed": chain.height - (snapshots[0].height if snapshots else 0),
            }
            print(json.dumps({**found, "rss_mib": peak_mib()}), flush=True)
    else:
        print(json.dumps({"rss_mib": peak_mib()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
