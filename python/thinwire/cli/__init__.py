"""The `thinwire` command. `main.py` reads the command line and lists the subcommands, modules of this folder.

A subcommand's module has three names: `HELP` (its first line stands in the list of commands, all of it above
the options), `add_arguments(parser)` and `run(args)`, which returns the exit status. Importing it must be
cheap: torch and whatever else is slow or optional is imported inside `run`.
"""
