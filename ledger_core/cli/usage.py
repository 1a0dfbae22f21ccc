"""What is wrong with a command line."""


class UsageError(Exception):
    """Flags or arguments that don't go together; the program ends with exit code 2."""
