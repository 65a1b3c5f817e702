"""Folders of a saved model: `config.json` and `model.safetensors`, or shards of it; written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar
from urllib.parse import unquote

from zoo.build.choosing import SHARDED_WEIGHTS, WEIGHTS
from zoo.build.create import create
from zoo.build.descriptions import CONFIG, read_description
from zoo.build.gathering import saved_files
from zoo.build.locked import as_locked_address, check_factory
from zoo.build.placement import ANYWHERE, Placement, as_placement, check_holds_values
from zoo.build.saved import (
    Origin,
    Use,
    check_saved_license,
    describe,
    factory_path,
    find_class,
    read_saved,
    revive,
)
from zoo.build.weights import key_map
from zoo.checkpoints.absent import told_as
from zoo.checkpoints.opening import open_checkpoint
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import sync_folder
from zoo.checkpoints.writing import write_sharded
from zoo.errors import CheckpointError, OptionError
from zoo.models.model import Component
from zoo.refs import LOCAL, is_external
from zoo.specs import CheckpointSpec

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]?)(i?)B", re.IGNORECASE)
_ComponentType = TypeVar("_ComponentType", bound=Component)


def save_pretrained(
    component: Component,
    directory: str | PathLike[str],
    *,
    format: str = "native",
    max_shard_size: int | str | None = "5GB",
) -> None:
    """Write a model, backbone, neck or head to a new folder; see `Component.save_pretrained`.

    Raises:
        OptionError: an unknown format, or no size.
        CheckpointError: the folder holds something already, or cannot be written.
    """
    target = os.path.abspath(os.fspath(directory))
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise CheckpointError(
            "the folder is not empty, and a saved model is never overwritten",
            asked=target,
            fix="another folder, or delete this one",
        )
    max_bytes = None if max_shard_size is None else _size(max_shard_size)
    record = describe(component, format)
    tensors = key_map(component, format).save(component.state_dict())
    metadata = {"format": "pt", "zoo_format": format}
    if component.provenance is not None:
        metadata["provenance"] = component.provenance.to_json()
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        aside = tempfile.mkdtemp(prefix=".zoo-", dir=os.path.dirname(target))
    except OSError as error:
        raise CheckpointError(f"cannot write here: {error.strerror}", asked=target, fix="another folder") from None
    try:
        if write_sharded(aside, tensors, metadata, max_bytes=max_bytes) != WEIGHTS:
            record["sharded"] = True
        with open(os.path.join(aside, CONFIG), "w", encoding="utf-8") as file:
            file.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o755)
        os.rename(aside, target)  # an empty folder is replaced, a filled one refused, both at once
        sync_folder(os.path.dirname(target))
    except OSError as error:
        raise CheckpointError(f"cannot write here: {error.strerror}", asked=target, fix="another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_pretrained(cls: type[_ComponentType], source: str | PathLike[str], **options: Any) -> _ComponentType:
    """A component of class `cls` with weights; see `Component.from_pretrained`.

    Raises:
        OptionError: the source leads to another class.
    """
    text = os.fspath(source)
    if not isinstance(source, str) or os.path.isfile(os.path.join(text, CONFIG)):
        text = "file://" + os.path.abspath(text)
    if is_external(text):
        placement = as_placement(options.pop("device", None), options.pop("dtype", None))
        names = ("features_only", "out_indices", "strict", "allow_licenses")
        doors = {name: options.pop(name) for name in names if name in options}
        built = create_external(text, options, placement=placement, cls=cls, **doors)
    else:
        built = create(text, **{"pretrained": "checkpoint" not in options, **options})
    if not isinstance(built, cls):
        raise OptionError(
            f"{text} is a {type(built).__name__}, not a {cls.__name__}", fix=f"{type(built).__name__}.from_pretrained"
        )
    return built


def create_external(
    ref: str,
    options: Mapping[str, Any],
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    placement: Placement = ANYWHERE,
    *,
    strict: bool = True,
    allow_licenses: Sequence[str] | str | None = None,
    cls: type[Component] | None = None,
) -> Component:
    """A component from `file://folder` or `hf://org/repo[@revision]` of `save_pretrained`, or from the registry."""
    unknown = sorted(options.keys() - {"num_classes"})
    if unknown:
        raise OptionError(
            f"a saved model takes no `{unknown[0]}`: its config is kept with it", fix="num_classes, device or dtype"
        )
    check_holds_values(placement)
    use = Use(options.get("num_classes"), features_only, out_indices, placement, strict)
    if ref.startswith(LOCAL):
        from zoo.versions.registry import create_local

        return create_local(ref, use, allow_licenses=allow_licenses, cls=cls)
    ref = as_locked_address(ref)
    with told_as(ref, lambda: saved_files(ref)):
        folder, config = _config_of(ref)
        saved = read_saved(read_description(config), config)
        check_saved_license(saved, ref, allow_licenses)
        matches = cls is not None and saved.factory == factory_path(cls)
        factory = cls if cls is not None and matches else find_class(saved.factory)
        name = SHARDED_WEIGHTS if saved.sharded else WEIGHTS
        opened = open_checkpoint(CheckpointSpec(name="saved", sources=(f"{folder}/{name}",)))
    source = ref if ref.startswith("file://") else opened.source
    return revive(saved, factory, opened.tensors, Origin(ref, source, opened.sha256), use)


def rebuild(factory: str, config: Mapping[str, Any]) -> Component:
    """A component from its class path and config, as they stand in a saved config."""
    check_factory(factory)
    cls = find_class(factory)
    return cls(cls.Config.of(config, {}))


def _config_of(ref: str) -> tuple[str, str]:
    """(The address of a saved folder, where its config is on this machine.)"""
    if not ref.startswith("file://"):
        return ref, fetch((f"{ref}/{CONFIG}",)).path
    text = ref.removeprefix("file://")
    folders = [os.path.abspath(os.path.expanduser(spelling)) for spelling in (text, unquote(text))]
    folder = next((path for path in folders if os.path.isdir(path)), folders[0])
    weights = next((name for name in (WEIGHTS, SHARDED_WEIGHTS) if os.path.isfile(os.path.join(folder, name))), WEIGHTS)
    for name in (CONFIG, weights):
        if not os.path.isfile(os.path.join(folder, name)):
            raise CheckpointError(
                f"no {name} in the folder",
                asked=ref,
                fix='a folder written by save_pretrained; for a weights file: zoo.create("NAME", checkpoint="…")',
            )
    return f"file://{folder}", os.path.join(folder, CONFIG)


def _size(text: int | str) -> int:
    """Bytes of `"5GB"`, `"500 MiB"` or a number. Raises `OptionError` for anything else."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match:
        step = 1024 if match[3] else 1000
        return max(1, int(float(match[1]) * step ** " KMGT".index(match[2].upper() or " ")))
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    raise OptionError("not a size", asked=f"max_shard_size={text!r}", fix='max_shard_size="5GB"')
