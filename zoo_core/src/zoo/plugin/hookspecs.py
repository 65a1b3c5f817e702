"""The hooks: where a plugin may add behaviour. Registering models is not one of them; that is what the manifest is for.

A plugin names the hooks it implements in its `PluginSpec.hooks`, and the module that does in its entry points:

    [project.entry-points."zoo.hooks"]
    acme = "zoo_acme.hooks"

The module is imported when one of those hooks first fires. Every implementation is marked `@hookimpl`, takes one
frozen event object, and answers for itself: what it raises is reported under the plugin's name and harms nobody else.
A `ZooError` that it raises on purpose reaches the user where no other plugin answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.cli.arguments import Command

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


class ReadWeights(NamedTuple):
    """A weights file of a format the core does not read. path: of the file, already verified."""

    path: str


class ModelCreated(NamedTuple):
    """A model has been built. ref: its canonical reference. model: the module, free to be changed."""

    ref: str
    model: nn.Module


class ErrorHint(NamedTuple):
    """An error is about to be shown. error: the exception."""

    error: BaseException


class CliCommands(NamedTuple):
    """The command line looks for commands it does not know. names: those it has."""

    names: tuple[str, ...]


class CliCommand(NamedTuple):
    """A command a plugin adds.

    summary: what it does, in lower case, for the list of commands. command: how it is called, a
    `zoo.cli.arguments.Command`; with one, `zoo` itself reads the line, refuses what is misspelt and prints the help
    page. run: gives the exit status; it is given the `Arguments` read by `command`, without one the words after the
    command's name.
    """

    name: str
    summary: str
    run: Callable[[Any], int]
    command: Command | None = None


class CheckpointSource(NamedTuple):
    """A source with a scheme the core does not know. address: all of it. folder: an empty one to fetch into."""

    address: str
    folder: str


class LicensePolicy(NamedTuple):
    """Weights are about to be used. ref: how the caller named them. license: its SPDX id, or `unknown`.

    license_class: `permissive`, `copyleft`, `restricted`, `non-commercial` or `unknown`.
    """

    ref: str
    license: str
    license_class: str


@hookspec
def read_weights(event: ReadWeights) -> Mapping[str, Tensor] | None:
    """The tensors of a file by name; None where it is not yours to read. The first answer is taken."""


@hookspec
def model_created(event: ModelCreated) -> None:
    """Called after every `zoo.create`."""


@hookspec
def error_hint(event: ErrorHint) -> str | None:
    """One line on what to do about an error; None where you have nothing to say."""


@hookspec
def cli_commands(event: CliCommands) -> Sequence[CliCommand] | None:
    """Further commands of `zoo`; they cannot replace the core's own."""


@hookspec
def checkpoint_source(event: CheckpointSource) -> str | None:
    """Fetch a file into the folder and give its path; None for a scheme not yours. The core checks its digest."""


@hookspec
def license_policy(event: LicensePolicy) -> bool | None:
    """Whether weights under a licence may be used here: False refuses, whoever accepted them; True accepts, unless
    another plugin refuses; None leaves it to the user. A `LicenseError` refuses in your own words."""
