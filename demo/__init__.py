"""The demo: real Home Assistants with their nodes, in one community, on this machine alone."""
