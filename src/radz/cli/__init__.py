"""The command line: the verbs, their keys and exit codes. Heavy imports happen inside a verb."""

from radz.cli.command_line import main

__all__ = ["main"]
