"""The commands that zoo-explain adds."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.plugin.hooks import hookimpl
from zoo.plugin.hookspecs import CliCommand, CliCommands


@hookimpl
def cli_commands(event: CliCommands) -> Sequence[CliCommand]:
    """`explain`, `summary` and `probe`."""
    return ()
