"""The public questions: `zoo.list_models`, `zoo.info`, `zoo.plugins`."""

from __future__ import annotations

from zoo.catalog.catalog import open_catalog
from zoo.catalog.records import ModelInfo
from zoo.plugin.state import PluginRecord


def list_models(
    pattern: str = "*",
    *,
    task: str | None = None,
    plugin: str | None = None,
    license: str | None = None,
    max_params: float | str | None = None,
    tag: str | None = None,
    kind: str | None = None,
    installed: bool | None = True,
) -> list[str]:
    """References of the models that match, ready for `zoo.create`.

    Args:
        pattern: shell-style, matched with the whole name: `"*resnet*"`, `"timm/*"`.
        task: `classification`, `features`, …
        plugin: a namespace or a distribution: `cnn`, `zoo-cnn`.
        license: an SPDX id, or a class: `permissive`, `copyleft`, `restricted`, `non-commercial`, `unknown`. Of a
            model's default weights; of its code where it has none.
        max_params: `25e6` or `"25M"`; models nobody has counted do not match.
        tag: one of a model's tags.
        kind: `model`, `backbone`, `neck` or `head`; None for the first two.
        installed: True for what can be created now, None for what could be installed too.

    Raises:
        OptionError: nothing matches because a criterion is misspelt.
    """
    rows = open_catalog().list_models(
        pattern,
        task=task,
        plugin=plugin,
        license=license,
        max_params=max_params,
        tag=tag,
        kind=kind,
        installed=installed,
    )
    return [row.ref for row in rows]


def info(ref: str) -> ModelInfo:
    """Everything known about a model, whether or not its plugin is installed. `.to_dict()` gives it as plain data.

    Raises:
        RefError, NotFoundError, AmbiguousNameError: the reference leads to no model; says what is near.
        UnsupportedError: an external reference (`hf://`, `file://`).
    """
    return open_catalog().info(ref)


def plugins() -> list[PluginRecord]:
    """Every installed plugin with its state, the ones set aside too."""
    return open_catalog().plugins()
