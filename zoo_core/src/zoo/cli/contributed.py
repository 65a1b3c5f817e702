"""Commands that plugins add. Looked for only when a command is typed that the core does not know, or on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli import COMMANDS, asks_for_help
from zoo.cli.arguments import read
from zoo.cli.terminal import show_warnings_plainly

if TYPE_CHECKING:
    from zoo.plugin.hookspecs import CliCommand


def contributed_commands() -> dict[str, CliCommand]:
    """Every plugin's commands by name. None can take the place of one of the core's, nor of an earlier plugin's."""
    from zoo.plugin.hooks import call
    from zoo.plugin.hookspecs import CliCommands

    show_warnings_plainly()
    found: dict[str, CliCommand] = {}
    for commands in call("cli_commands", CliCommands(tuple(COMMANDS))):
        for command in commands:
            if command.name not in COMMANDS:
                found.setdefault(command.name, command)
    return found


def run_contributed(contributed: CliCommand, words: Sequence[str]) -> int:
    """Run a plugin's command on the words after its name; one that says how it is called has them read, as ours."""
    if contributed.command is None:
        return contributed.run(list(words))
    if asks_for_help(words):
        from zoo.cli.front import print_command_help

        return print_command_help(contributed.command, contributed.summary)
    return contributed.run(read(contributed.command, words))
