"""The chain's data on disk: one SQLite database per community, and what protects and repairs it."""
