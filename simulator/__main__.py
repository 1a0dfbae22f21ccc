"""`python -m simulator`: one simulated home."""

import sys

from simulator.cli import main

sys.exit(main())
