"""What zoo-detection adds beside models: `zoo eval`, and the weights inside TensorFlow's frozen graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.plugin.hooks import ReadWeights, hookimpl
from zoo.plugin.hookspecs import CliCommand, CliCommands
from zoo_detection.evaluation import eval_command

if TYPE_CHECKING:
    from torch import Tensor


@hookimpl
def cli_commands(event: CliCommands) -> Sequence[CliCommand]:
    """`eval`."""
    return (CliCommand("eval", eval_command.SUMMARY, eval_command.run, eval_command.COMMAND),)


@hookimpl
def read_weights(event: ReadWeights) -> Mapping[str, Tensor] | None:
    """The variables of a frozen TensorFlow graph; None for other files.

    Raises:
        MissingDependencyError: tensorboard, which knows the format, is not installed.
        FormatError: damaged, or a graph without weights.
    """
    from zoo_detection.tensorflow_graphs import is_frozen_graph, read_frozen_graph  # imports torch, `zoo help` does not

    return read_frozen_graph(event.path) if is_frozen_graph(event.path) else None
