"""Entities of trading: the surplus, and how each rule stands."""
