"""The shell: sweeps, run folders, figures, tables, reports and the subcommands."""
