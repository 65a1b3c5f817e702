"""Commands that plugins add. Looked for only when a command is typed that the core does not know, or on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli import COMMANDS
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
