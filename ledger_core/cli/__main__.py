"""`python -m ledger_core.cli` is `energy-ledger`."""

import sys

from ledger_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
