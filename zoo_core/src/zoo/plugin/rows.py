"""What holds for every plugin's rows beyond their types: names that follow the grammar, and nothing named twice."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.errors import ManifestError, RefError
from zoo.plugin.scanner import normalized
from zoo.refs import MAX_LENGTH, parse
from zoo.specs import CheckpointSpec, ModelSpec, PluginSpec

_HEX = frozenset("0123456789abcdef")


def distribution_of(namespace: str) -> str:
    """The one distribution that may provide a namespace: `detection` comes from `zoo-detection`."""
    return "zoo-" + namespace.replace("_", "-")


def is_composed(model: ModelSpec) -> bool:
    """Whether a model is put together from parts that other plugins provide, and so cannot be built by itself."""
    return "composed" in model.tags


def validate(spec: PluginSpec) -> None:
    """Raises `ManifestError` naming the row at fault."""
    _check_name(spec.namespace, "namespace")
    if normalized(spec.distribution) != distribution_of(spec.namespace):
        raise ManifestError(
            f"namespace {spec.namespace!r} belongs to the distribution {distribution_of(spec.namespace)}",
            found=spec.distribution,
        )
    if spec.api[0] > spec.api[1]:
        raise ManifestError(f"api: {list(spec.api)} is not [lowest, highest]")
    for name in spec.requires:
        if not all(map(str.isidentifier, name.split("."))):
            raise ManifestError(f"requires: {name!r} is not an import name")
    for model in spec.models:
        _check_model(model)
    _check_unique((f"{_space(m)} {m.name}" for m in spec.models), "models: the")
    _check_aliases(spec)


def _check_model(model: ModelSpec) -> None:
    where = f"model {model.name!r}"
    _check_name(model.name, "model")
    module, colon, attribute = model.factory.partition(":")
    if not colon or not attribute.isidentifier() or not all(map(str.isidentifier, module.split("."))):
        raise ManifestError(f"{where}: factory {model.factory!r} is not `package.module:Class`")
    if model.version < 1:
        raise ManifestError(f"{where}: a version is an integer from 1, not {model.version}")
    for name, count in (("params", model.params), ("macs", model.macs)):
        if count is not None and count < 0:
            raise ManifestError(f"{where}: {name} {count} is negative")
    if len(model.channels) != len(model.strides) or min(model.channels + model.strides, default=1) < 1:
        raise ManifestError(f"{where}: channels {model.channels} and strides {model.strides} do not pair up")
    _check_digest(model.structure_sha256, f"{where}: structure_sha256")
    _check_unique((c.name for c in model.checkpoints), f"{where}: the checkpoint")
    for checkpoint in model.checkpoints:
        _check_checkpoint(checkpoint, model.formats, f"{where}, checkpoint {checkpoint.name!r}")


def _check_checkpoint(checkpoint: CheckpointSpec, formats: tuple[str, ...], where: str) -> None:
    _check_name(checkpoint.name, where)
    _check_digest(checkpoint.sha256, f"{where}: sha256")
    if checkpoint.size is not None and checkpoint.size < 0:
        raise ManifestError(f"{where}: size {checkpoint.size} is negative")
    if not checkpoint.sources:
        raise ManifestError(f"{where}: no sources")
    for source in checkpoint.sources:
        scheme, separator, address = source.partition("://")
        if not separator or not scheme.replace("+", "").isalnum() or not address:
            raise ManifestError(f"{where}: the source {source!r} has no scheme such as hf:// or pkg://")
    if checkpoint.format not in formats:
        raise ManifestError(f"{where}: format {checkpoint.format!r} is none of the model's: {', '.join(formats)}")


def _check_name(name: str, where: str) -> None:
    try:
        plain = parse(name).name == name
    except RefError:
        plain = False
    if not plain:
        raise ManifestError(f"{where}: {name!r} is not a name: lower-case letters, digits and '_'")


def _check_digest(digest: str | None, where: str) -> None:
    if digest is not None and not (len(digest) == 64 and _HEX.issuperset(digest)):
        raise ManifestError(f"{where}: {digest!r} is not 64 hexadecimal digits")


def _check_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ManifestError(f"{what} {name} stands twice")
        seen.add(name)


def _space(model: ModelSpec) -> str:
    """Models and backbones share their names, since a reference may lead to either; necks and heads have their own."""
    return "model" if model.kind == "backbone" else model.kind


def _check_aliases(spec: PluginSpec) -> None:
    """An alias has one meaning, and never that of another row's own name."""
    meaning: dict[tuple[str, str], str] = {}
    for model in spec.models:
        for name in (model.name, *(f"{model.name}.{c.name}" for c in model.checkpoints)):
            meaning[_space(model), name] = name
    for model in spec.models:
        rows = [(model.name, model.aliases)]
        rows += [(f"{model.name}.{c.name}", c.aliases) for c in model.checkpoints]
        for row, aliases in rows:
            for alias in aliases:
                if not 0 < len(alias) <= MAX_LENGTH or not alias.isprintable() or alias != alias.strip():
                    raise ManifestError(f"{row}: the alias {alias[:60]!r} is not a printable name")
                if (_space(model), alias) in meaning:
                    raise ManifestError(f"{row}: the alias {alias!r} already means {meaning[_space(model), alias]}")
                meaning[_space(model), alias] = row
