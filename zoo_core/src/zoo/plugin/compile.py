"""Compiling: from an author's `catalog.py` to the manifest that everyone else reads.

The rows are checked against the code they name, and what only the code knows is measured: the JSON Schema of every
config, parameter counts, the structure of the state dict, channels and strides of the feature maps. Models are built
on the meta device, so that a large one costs what a small one costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import ManifestError, UnsupportedError, ZooError
from zoo.plugin import manifest
from zoo.plugin.loading import load_factory
from zoo.plugin.project import Project, find_project, importable
from zoo.plugin.rows import is_composed, validate
from zoo.plugin.state import PluginRecord
from zoo.specs import CheckpointSpec, InputSpec, ModelSpec, PluginSpec

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.models.model import Component

_HEAVY = ("torch", "torchvision", "timm", "transformers", "tensorflow", "jax")
_IMPORT_SECONDS = 120

MEASURED = ("params", "macs", "structure_sha256", "channels", "strides")
"""What compiling fills in. A row that is as it was keeps it."""


class Compiled(NamedTuple):
    """A manifest as it should be. `changed` says whether the file differs from it (or is not there)."""

    spec: PluginSpec
    path: str
    text: str
    changed: bool


def write_compiled(target: str, *, full: bool = False) -> Compiled:
    """Compile a project and put its manifest in its place; what stood there stays where that fails.

    A row may be made of other rows of the same plugin, by their names. So that these are found while it is built, the
    rows are written before they are measured.
    """
    declared = compile_plugin(target, measured=False)
    before = None
    if declared.changed:
        if os.path.isfile(declared.path):
            with open(declared.path, encoding="utf-8", errors="replace", newline="") as stream:
                before = stream.read()
        write_manifest(declared)
    try:
        compiled = compile_plugin(target, full=full)
    except BaseException:
        if before is not None:
            write_manifest(declared._replace(text=before))
        elif declared.changed:
            os.unlink(declared.path)
        raise
    if compiled.changed:
        write_manifest(compiled)
    return compiled._replace(changed=compiled.text != before if declared.changed else compiled.changed)


def compile_plugin(target: str, *, full: bool = False, measured: bool = True) -> Compiled:
    """The manifest of a project, compared with the one on disk; nothing is written.

    Args:
        target: a project folder, a module such as `zoo_cnn.catalog`, or an installed namespace.
        full: measure every model again. Otherwise rows whose factory and config are as in the manifest on disk keep
            what was measured then.
        measured: False leaves out what has not been measured yet.
    """
    project = find_project(target)
    text, previous = "", None
    if os.path.isfile(project.manifest):
        with open(project.manifest, encoding="utf-8", errors="replace", newline="") as stream:
            text = stream.read()
        try:
            previous = None if full else manifest.read(project.manifest)
        except ManifestError:
            previous = None  # damaged or from another core: measured anew
    spec = compile_catalog(target, previous, structure=measured)
    wanted = manifest.write(spec)
    return Compiled(spec, project.manifest, wanted, wanted != text)


def write_manifest(compiled: Compiled) -> None:
    """Put the manifest next to its catalogue, complete or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(compiled.path), suffix=".tmp")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(compiled.text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, compiled.path)
    except BaseException:
        os.unlink(temporary)
        raise


def compile_catalog(target: str, previous: PluginSpec | None = None, *, structure: bool = True) -> PluginSpec:
    """The declared plugin with everything that only its code knows filled in.

    Args:
        target: as for `compile_plugin`.
        previous: an earlier result; rows with the same factory, config, input and version keep its measured facts.
        structure: whether to measure models. A catalogue module that sets `STRUCTURE = False` declares by itself
            what it knows, and no model of it is built.

    Raises:
        ManifestError: the catalogue imports torch, declares no `PLUGIN`, or a row does not fit the code.
        PluginError: a factory cannot be imported or is no component.
        NotFoundError: there is no catalogue at `target`.
    """
    project = find_project(target)
    check_light(project)
    with importable(project):
        try:
            module = import_module(project.catalog)
        except (Exception, SystemExit) as error:
            raise ManifestError(f"importing {project.catalog} raised {type(error).__name__}: {error}") from error
        declared = getattr(module, "PLUGIN", None)
        if not isinstance(declared, PluginSpec):
            raise ManifestError(f"{project.catalog} declares no PLUGIN = PluginSpec(…)", found=type(declared).__name__)
        validate(declared)
        record = PluginRecord(declared.namespace, declared.distribution, "", location=project.package)
        declares = not getattr(module, "STRUCTURE", True)
        measured = structure and not declares
        earlier = {(m.kind, m.name): m for m in previous.models} if previous and not declares else {}
        factories = {name: load_factory(name, record) for name in dict.fromkeys(m.factory for m in declared.models)}
        models = [
            _complete(model, factories[model.factory], earlier.get((model.kind, model.name)), measured)
            for model in declared.models
        ]
        schemas = {name: _schema(name, factory) for name, factory in factories.items()}
    spec = replace(declared, models=tuple(models), schemas=schemas)
    return manifest.parse(manifest.write(spec).encode())  # as every reader will see it


def structure_sha256(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    """The digest of a state dict's structure: name → (dtype such as `float32`, shape), in order of the names."""
    from hashlib import sha256

    lines = (f"{name}\t{dtype}\t{','.join(map(str, shape))}\n" for name, (dtype, shape) in sorted(tensors.items()))
    return sha256("".join(lines).encode()).hexdigest()


def structure_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What `structure_sha256` digests, of a state dict."""
    return {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()}


def check_light(project: Project) -> None:
    """Raises `ManifestError` where reading the catalogue imports a framework: every compile and check would pay."""
    script = (
        f"import sys; sys.path.insert(0, {project.root!r}); import {project.catalog}\n"
        f"sys.stdout.write('\\n' + ' '.join(n for n in {_HEAVY!r} if n in sys.modules))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, errors="replace", timeout=_IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ManifestError(f"importing {project.catalog} took more than {_IMPORT_SECONDS} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended the process with status {done.returncode}"])[-1]
        raise ManifestError(f"importing {project.catalog} failed: {last}")
    heavy = done.stdout.rpartition("\n")[2]
    if heavy:
        raise ManifestError(
            f"importing {project.catalog} imports {heavy}",
            fix=f"keep {project.catalog} and the package's __init__.py free of it: name factories as strings",
        )


def _complete(model: ModelSpec, factory: type[Component], earlier: ModelSpec | None, measured: bool) -> ModelSpec:
    """The row, checked against its class, with its measured facts."""
    where = f"model {model.name!r}"
    _check_config(model.config, factory, where)
    for checkpoint in model.checkpoints:
        _check_checkpoint(checkpoint, model, factory, f"{where}, checkpoint {checkpoint.name!r}")
    known = earlier is not None and _same_code(model, earlier)
    if is_composed(model) or not (measured or known):
        return model
    facts = {name: getattr(earlier, name) for name in MEASURED} if known else _measure(model, factory, where)
    for name, found in facts.items():
        said = getattr(model, name)
        if said not in (None, (), found):
            raise ManifestError(f"{where}: {name} is declared as {said}, and is {found}", fix=f"leave {name} out")
    return replace(model, **facts)


def _same_code(model: ModelSpec, earlier: ModelSpec) -> bool:
    def identity(row: ModelSpec) -> Any:
        return manifest.canonical([row.factory, row.version, dict(row.config), row.input.to_dict()])

    return earlier.params is not None and bool(identity(model) == identity(earlier))


def _check_config(values: Mapping[str, Any], factory: type[Component], where: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a catalogue uses the zoo's own spellings
        try:
            factory.Config.of(values, {})
        except (ZooError, Warning) as error:
            raise ManifestError(f"{where}: config: {error}") from error


def _check_checkpoint(checkpoint: CheckpointSpec, model: ModelSpec, factory: type[Component], where: str) -> None:
    from zoo.models.labels import label_space

    classes = {} if checkpoint.num_classes is None else {"num_classes": checkpoint.num_classes}
    known = factory.Config.model_fields
    _check_config(
        {**model.config, **{k: v for k, v in classes.items() if k in known}, **checkpoint.config}, factory, where
    )
    if checkpoint.labels is None:
        return
    try:
        labels = label_space(checkpoint.labels)
        labels.check(labels.num_outputs if checkpoint.num_classes is None else checkpoint.num_classes, where)
    except ZooError as error:
        raise ManifestError(f"{where}: labels: {error.message}", fix=error.fix) from error


def _schema(name: str, factory: type[Component]) -> dict[str, Any]:
    from pydantic.errors import PydanticUserError

    try:
        schema = factory.Config.model_json_schema()
    except PydanticUserError as error:
        raise ManifestError(f"{name}: its Config has no JSON Schema: {error.message}") from error
    if schema.get("additionalProperties") is not False:
        raise ManifestError(f"{name}: its Config allows unknown options", fix='leave extra="forbid" as it is')
    return schema


def _measure(model: ModelSpec, factory: type[Component], where: str) -> dict[str, Any]:
    import torch

    try:
        with torch.device("meta"):
            component = factory(factory.Config.of(model.config, {}))
    except Exception as error:
        raise ManifestError(
            f"{where}: building it on the meta device raised {type(error).__name__}: {error}"
        ) from error
    unknown = set(model.formats) - {"native", *component.key_maps()}
    if unknown:
        raise ManifestError(f"{where}: key_maps() has no format {min(unknown)!r}")
    if model.kind in ("neck", "head"):  # complete only once bound to the maps they take
        return {}
    channels, strides = _maps(model, factory, component, where)
    return {
        "params": sum(p.numel() for p in component.parameters()),
        "macs": _macs(component, model.input),
        "structure_sha256": structure_sha256(structure_of(component.state_dict())),
        "channels": channels,
        "strides": strides,
    }


def _macs(component: Component, declared: InputSpec) -> int | None:
    """None where a forward pass needs more than images, or values that the meta device does not have."""
    from zoo.models.counting import multiply_accumulates
    from zoo.models.model import Backbone, Model

    if not isinstance(component, Model | Backbone):
        return None
    try:
        fixed = component.input_spec.fixed_size
        return multiply_accumulates(component, component.input_spec if fixed else declared)
    except Exception:
        return None


def _maps(
    model: ModelSpec, factory: type[Component], component: Component, where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the feature maps; none where the model gives none."""
    import torch

    from zoo.models.classifier import Classifier
    from zoo.models.model import Backbone

    if isinstance(component, Backbone):
        return tuple(component.channels), tuple(component.strides)
    if not issubclass(factory, Classifier):
        return (), ()
    try:
        with torch.device("meta"):
            backbone = factory.as_backbone(component.config)
    except UnsupportedError:
        return (), ()
    except Exception as error:
        raise ManifestError(f"{where}: as_backbone() raised {type(error).__name__}: {error}") from error
    return tuple(backbone.channels), tuple(backbone.strides)
