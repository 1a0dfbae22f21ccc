"""Simulation: the node's real engine, many times, over a virtual network and clock in one process."""
