"""The node: a process that mines, verifies and shares the chain with other homes."""
