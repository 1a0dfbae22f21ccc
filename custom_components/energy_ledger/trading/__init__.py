"""Trading: surplus to offers, criteria to acceptances, the delivery gate, and metering.

agreed       what a trade asks of one slot
gate_core    which device may give how much now, and why not more; sans I/O
gate         drives it: the ledger's view in, commands to the devices out
meter_core   samples of a meter to signed boundaries; sans I/O
metering     drives it
"""
