"""Flows in the user interface, one module for each; `config_flow.py` binds them."""
