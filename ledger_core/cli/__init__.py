"""The command `energy-ledger`.

    main              the program: groups, exit codes, errors in one line
    frame             what a group of commands registers itself with
    usage             what is wrong with a command line
    refusal_text      what a node refuses, in people's units
    output            data as JSON or as lines, safe to print
    progress          how far long work has come, on standard error
    passphrases       asking for a passphrase, or reading its file
    input_files       what a command line names: files, and bytes as hexadecimal or base64
    connection        which node a command asks, whose key signs, ids written in part
    output_files      files that a command writes
    quantities        energy, power, money, prices, times and places as people write and read them
    tables            rows under headings
    community_file    a community as a file that people write, and its genesis file
    record_view       a record with its fields by name
    chain_view        a stored chain and its blocks as people read them
    event_text        an event in a sentence
    picture           a text as a QR code
    watch_view        the page that `watch` draws
    *_command(s)      one module per group, or per command that stands alone

A group of commands is a module with a function `register(program)`, and one line in `main.GROUPS`.
"""

from ledger_core.cli.main import main

__all__ = ["main"]
