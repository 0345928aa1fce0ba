"""The command line: the verbs, their keys and exit codes. Heavy imports happen inside a verb."""

from radz.cli.command_line import guarded, main

__all__ = ["guarded", "main"]
