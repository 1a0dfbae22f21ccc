"""The engine: all ledger state of a node, without sockets, clock or threads.

What happened outside comes in as method calls that carry `now` (UTC seconds); what should happen outside goes
out as a list of outputs. The node runs it in one thread, the simulation runs many in one.
"""
