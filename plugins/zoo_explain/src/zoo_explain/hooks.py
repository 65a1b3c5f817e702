"""The commands that zoo-explain adds."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.plugin.hooks import hookimpl
from zoo.plugin.hookspecs import CliCommand, CliCommands
from zoo_explain import explain_command, probe_command, summary_command


@hookimpl
def cli_commands(event: CliCommands) -> Sequence[CliCommand]:
    """`explain`, `summary` and `probe`."""
    return (
        CliCommand("explain", explain_command.SUMMARY, explain_command.run, explain_command.COMMAND),
        CliCommand("probe", probe_command.SUMMARY, probe_command.run, probe_command.COMMAND),
        CliCommand("summary", summary_command.SUMMARY, summary_command.run, summary_command.COMMAND),
    )
