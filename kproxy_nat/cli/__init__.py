"""The command line: one module for each command, one place for errors."""
