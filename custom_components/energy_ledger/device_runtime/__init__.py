"""Devices while they run: read, commanded, and registered on the ledger as assets."""
