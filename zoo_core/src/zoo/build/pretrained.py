"""Folders of a saved model: `config.json` and `model.safetensors`, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from torch import Tensor

from zoo.build.create import ANYWHERE, Placement, as_placement, construct, create, replace_head
from zoo.build.fast_init import without_initialisation
from zoo.build.weights import key_map, load_weights
from zoo.catalog import open_catalog
from zoo.catalog.licenses import check_license
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.writing import write_weights
from zoo.errors import (
    CheckpointError,
    FormatError,
    LabelError,
    ManifestError,
    OptionError,
    PluginError,
    UnsupportedError,
)
from zoo.models.labels import LabelSpace
from zoo.models.model import Backbone, Component, Model
from zoo.models.provenance import Provenance
from zoo.plugin.hooks import call
from zoo.plugin.hookspecs import ModelCreated
from zoo.plugin.loading import load_factory
from zoo.specs import CheckpointSpec, InputSpec

LAYOUT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_ComponentType = TypeVar("_ComponentType", bound=Component)


def save_pretrained(component: Component, directory: str | PathLike[str], *, format: str = "native") -> None:
    """Write a model, backbone, neck or head to a new folder.

    Args:
        directory: must not exist, or be empty: a saved model is never overwritten.
        format: key names of the weights file, one of the model's published formats.

    Raises:
        OptionError: an unknown format.
        CheckpointError: the folder holds something already, or cannot be written.
    """
    target = os.path.abspath(os.fspath(directory))
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise CheckpointError(
            "the folder is not empty, and a saved model is never overwritten",
            asked=target,
            fix="another folder, or delete this one",
        )
    record = _record(component, format)
    _check_reopens(component, record)
    tensors = key_map(component, format).save(component.state_dict())
    metadata = {"format": "pt", "zoo_format": format}
    if component.provenance is not None:
        metadata["provenance"] = component.provenance.to_json()
    config = json.dumps(record, indent=1, sort_keys=True) + "\n"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        aside = tempfile.mkdtemp(prefix=".zoo-", dir=os.path.dirname(target))
    except OSError as error:
        raise CheckpointError(f"cannot write here: {error.strerror}", asked=target, fix="another folder") from None
    try:
        write_weights(os.path.join(aside, WEIGHTS), tensors, metadata)
        with open(os.path.join(aside, CONFIG), "w", encoding="utf-8") as file:
            file.write(config)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o755)
        os.rename(aside, target)  # an empty folder is replaced, a filled one refused, both at once
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
    if text.startswith(("file://", "hf://")):
        placement = as_placement(options.pop("device", None), options.pop("dtype", None))
        doors = {
            name: options.pop(name) for name in ("features_only", "out_indices", "allow_licenses") if name in options
        }
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
    allow_licenses: Sequence[str] | str | None = None,
    cls: type[Component] | None = None,
) -> Component:
    """A component from `file://folder` or `hf://org/repo[@revision]`, as `save_pretrained` wrote it."""
    unknown = sorted(options.keys() - {"num_classes"})
    if unknown:
        raise OptionError(
            f"a saved model takes no `{unknown[0]}`: its config is in the folder", fix="num_classes, device or dtype"
        )
    files = _files(ref)
    record = _read_record(files.config)
    if record.provenance is not None or ref.startswith("hf://"):
        # What the caller trained from nothing is the caller's; everything else has a licence, if only an unknown one.
        stated = record.provenance.license if record.provenance else "unknown"
        check_license(CheckpointSpec(name="saved", sources=(ref,), license=stated), ref, allow_licenses)
    matches = cls is not None and record.factory == _factory(cls)
    factory = cls if cls is not None and matches else find_class(record.factory)
    config = factory.Config.of(record.config, {})
    with without_initialisation():
        component = construct(factory, config, features_only, out_indices)
    # A folder of the caller's may be written over while it is in use; the Hub's cache is not.
    weights = read_tensors(files.weights, mapped=not ref.startswith("file://"))
    component.load_report = load_weights(
        component, weights.tensors, format=record.format, source=files.source, **placement._asdict()
    )
    component.to(*placement)
    _restore(component, record, ref, files)
    classes, saved = options.get("num_classes"), getattr(config, "num_classes", None)
    if classes is not None and classes != saved:
        replace_head(component, classes, saved, placement)
    component.eval()
    call("model_created", ModelCreated(ref, component))
    return component


def rebuild(factory: str, config: Mapping[str, Any]) -> Component:
    """A component from its class path and config, as they stand in a saved config."""
    cls = find_class(factory)
    return cls(cls.Config.of(config, {}))


def find_class(factory: str) -> type[Component]:
    """The class a saved config names. Only packages of installed plugins are imported: a file cannot choose code."""
    package = factory.partition(":")[0].partition(".")[0]
    for plugin in open_catalog().plugins():
        if os.path.basename(os.path.dirname(plugin.manifest)) == package:
            return load_factory(factory, plugin)
    raise PluginError(
        f"the saved model is a {factory}, which belongs to no installed plugin",
        fix=f"pip install {package.replace('_', '-')}, or YourClass.from_pretrained(…)",
    )


def _record(component: Component, format: str) -> dict[str, Any]:
    labels: LabelSpace | None = component.label_space if isinstance(component, Model) else None
    spec = component.input_spec if isinstance(component, Model | Backbone) else None
    return {
        "zoo": LAYOUT,
        "factory": _factory(type(component)),
        "config": component.config.to_dict(),
        "format": format,
        "input": spec.to_dict() if spec is not None else None,
        "labels": labels.to_dict() if labels is not None else None,
        "provenance": component.provenance.to_dict() if component.provenance else None,
    }


def _check_reopens(component: Component, record: Mapping[str, Any]) -> None:
    """Refuse to write what could not be opened: the config must lead to this structure and know this format."""
    with without_initialisation():
        again = type(component)(type(component).Config.of(record["config"], {}))
    key_map(again, record["format"])
    mine, theirs = component.state_dict(), again.state_dict()
    differing = [name for name in {**mine, **theirs} if _shape(mine.get(name)) != _shape(theirs.get(name))]
    if differing:
        raise UnsupportedError(
            "the config does not describe this model any more, so it could not be opened again",
            found=", ".join(differing[:4]),
            fix="a class of your own that builds it, or torch.save(model.state_dict(), …)",
        )


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _factory(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


class _Files(NamedTuple):
    """A saved folder's files here, where the weights came from, and their digest."""

    config: str
    weights: str
    source: str
    sha256: str


class _Saved(NamedTuple):
    """What a `config.json` says."""

    factory: str
    config: dict[str, Any]
    format: str
    input: InputSpec | None
    labels: LabelSpace | None
    provenance: Provenance | None


def _files(ref: str) -> _Files:
    if ref.startswith("file://"):
        text = ref.removeprefix("file://")
        folders = [os.path.abspath(os.path.expanduser(spelling)) for spelling in (text, unquote(text))]
        folder = next((path for path in folders if os.path.isdir(path)), folders[0])
        for name in (CONFIG, WEIGHTS):
            if not os.path.isfile(os.path.join(folder, name)):
                raise CheckpointError(
                    f"no {name} in the folder",
                    asked=ref,
                    fix='a folder written by save_pretrained; for a weights file: zoo.create("NAME", checkpoint="…")',
                )
        weights = fetch((f"file://{folder}/{WEIGHTS}",))
        return _Files(os.path.join(folder, CONFIG), weights.path, ref, weights.sha256)
    config = fetch((f"{ref}/{CONFIG}",))
    weights = fetch((f"{ref}/{WEIGHTS}",))
    return _Files(config.path, weights.path, weights.source, weights.sha256)


def _read_record(path: str) -> _Saved:
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        if record["zoo"] > LAYOUT:
            raise FormatError(f"{path} was written by a newer zoo", fix="pip install -U zoo-core")
        before, labels, spec = record.get("provenance"), record.get("labels"), record.get("input")
        saved = _Saved(
            factory=str(record["factory"]),
            config=dict(record["config"]),
            format=str(record.get("format", "native")),
            input=None if spec is None else InputSpec.from_dict(spec),
            labels=None if labels is None else LabelSpace.from_dict(labels),
            provenance=None if before is None else Provenance.from_json(json.dumps(before)),
        )
        _refuse_fetching(saved.config)
        return saved
    except (OSError, ValueError, KeyError, TypeError, LookupError, AttributeError, ManifestError, LabelError) as error:
        raise FormatError(
            f"{path} is not a config that save_pretrained wrote ({type(error).__name__}: {error})",
            fix="a folder written by save_pretrained",
        ) from None


def _refuse_fetching(value: Any) -> None:
    """A saved config describes parts; it may not have their weights fetched from anywhere, nor accept licences."""
    if isinstance(value, str) and "://" in value:
        raise ValueError(f"it names an address, {value[:80]!r}")
    if isinstance(value, Mapping):
        asked = sorted(value.keys() & {"pretrained", "checkpoint", "format", "allow_licenses"})
        if asked:
            raise ValueError(f"it asks for weights of its own, by {asked[0]!r}")
        for part in value.values():
            _refuse_fetching(part)


def _restore(component: Component, saved: _Saved, ref: str, files: _Files) -> None:
    if isinstance(component, Model | Backbone) and saved.input is not None:
        component.input_spec = saved.input
    if isinstance(component, Model) and saved.labels is not None:
        classes = saved.config.get("num_classes")
        if classes is not None:
            saved.labels.check(classes, ref)
        component.label_space = saved.labels
    component.provenance = replace(saved.provenance or Provenance(ref=ref), source=files.source, sha256=files.sha256)
