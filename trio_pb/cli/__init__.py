"""The command line: one module per group of commands, each thin. docs/reference/cli.md is its reference."""
