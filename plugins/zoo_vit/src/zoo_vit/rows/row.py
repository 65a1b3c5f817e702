"""What a row of the catalogue says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.specs import CheckpointSpec, Metric


class Timm(NamedTuple):
    """An architecture of timm whose weights are this size's, and the config they need beside the size's own. Another
    image size than the size's needs no mention. tags: which of its weights; all of them where none are named. input:
    what the publishers' own preprocessing has otherwise than timm. metrics: by tag, figures that timm does not give.
    suffix: what its weights' names end in where another architecture has the same tag; its image size if unsaid.
    heeded: timm's notes that ask for what the config has already."""

    architecture: str
    config: Mapping[str, Any] = {}
    tags: tuple[str, ...] = ()
    input: Mapping[str, Any] = {}
    metrics: Mapping[str, tuple[Metric, ...]] = {}
    suffix: str = ""
    heeded: tuple[str, ...] = ()


class Size(NamedTuple):
    """One model: its name and config here, its architectures in timm (the first one's default weights are the
    default), other names it is known by, what was published elsewhere, and the default where it is not timm's."""

    name: str
    config: Mapping[str, Any]
    timm: tuple[Timm | str, ...] = ()
    aliases: tuple[str, ...] = ()
    elsewhere: tuple[CheckpointSpec, ...] = ()
    default: str = ""


class Family(NamedTuple):
    """What the sizes of one family share. formats: beside native, and timm's where there are architectures of its."""

    factory: str
    summary: str
    paper: str
    sizes: tuple[Size, ...]
    formats: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    task: str = "classification"
    license: str = "Apache-2.0"
