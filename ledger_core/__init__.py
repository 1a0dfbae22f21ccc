"""The energy ledger: records, rules, chain and node; nothing here imports Home Assistant."""

__version__ = "0.1.0"
