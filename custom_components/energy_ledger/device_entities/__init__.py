"""Entities of the home's devices."""
