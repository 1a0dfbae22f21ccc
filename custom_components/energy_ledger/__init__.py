"""Energy Ledger for Home Assistant."""
