"""The chain: block tree, fork choice, verification, and the store; the sole writer of a node's data."""
