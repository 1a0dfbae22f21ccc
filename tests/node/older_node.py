"""`energy-ledger` of an earlier time: its nodes speak an older version of the peer protocol alone."""

import sys
from functools import partial
from unittest.mock import patch

from ledger_core.cli.main import main
from ledger_core.node import node
from ledger_core.node.peers import LocalNode

if __name__ == "__main__":
    with patch.object(node, "LocalNode", partial(LocalNode, versions=(0, 0))):
        sys.exit(main())
