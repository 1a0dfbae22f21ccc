"""The command `energy-ledger`.

    main              the program: groups, exit codes, errors in one line
    frame             what a group of commands registers itself with
    output            data as JSON or as lines, safe to print
    progress          how far long work has come, on standard error
    passphrases       asking for a passphrase, or reading its file
    input_files       what a command line names: files, and bytes as hexadecimal or base64
    *_commands        one module per group

A group of commands is a module with a function `register(program)`, and one line in `main.GROUPS`.
"""

from ledger_core.cli.main import main

__all__ = ["main"]
