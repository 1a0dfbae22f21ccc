"""Entities of the home and of its node: one module for each platform."""
