"""The words of the command line: one dataclass a subcommand."""
