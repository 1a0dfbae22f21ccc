"""The integration's actions: what automations and scripts may do in a home's name.

fields   the schemas, and what the fields mean on the ledger
market   sell, buy, accept, counter, reject, withdraw
trades   terminate, rate, transfer, and the lists
statements  a month per neighbour, and what slots settled to
records  get a record with its proof, invite
"""
