"""Trading: surplus to offers, criteria to acceptances, the delivery gate, and metering.

agreed          what a trade asks of one slot
gate_core       which device may give how much now, and why not more; sans I/O (its types: gate_model)
gate            drives it: the ledger's view in, commands to the devices out
meter_core      samples of a meter to boundaries; sans I/O
metering        drives it: signs boundaries, and keeps them until the chain has them
forecast        what the slots ahead will bring; supply: what each device can sell of it
rule_config     a rule's subentry, typed; prices_now: its price now; rule_state: how it stands
sell_desk, buy_desk   the rules at work, with what they share in context and remember in notebook
engine          looks at everything when something changes
statement_core  a month's sums as CSV and as a payment file; statements keeps the lines
"""
