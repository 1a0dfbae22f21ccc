"""`python -m demo`: the same as `script/demo`."""

import sys

from demo.main import main

sys.exit(main())
