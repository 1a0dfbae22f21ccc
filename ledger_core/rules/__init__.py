"""The rules: pure functions that apply a block to a state, or say exactly why not.

Nothing here reads a clock, a file, a socket or a random source; the time is an argument.
"""
