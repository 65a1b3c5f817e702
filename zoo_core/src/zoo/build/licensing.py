"""What an application that uses models has to know of licences: code, weights, training data. Needs no torch.

The facts are the catalogue's and the packages' own; nothing is fetched to find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from zoo.build.descriptions import CONFIG, is_saved, plugin_of, read_description
from zoo.build.own_files import known_license
from zoo.catalog import open_catalog
from zoo.catalog.datasets import DataTerms, data_terms
from zoo.catalog.licenses import classify
from zoo.catalog.packages import Package, packages_of
from zoo.checkpoints.lock import Lock, LockedFile, LockedModel
from zoo.checkpoints.opening import files_of
from zoo.checkpoints.sources import stored
from zoo.checkpoints.store import Store
from zoo.errors import ZooError
from zoo.plugin.manifest import read as read_manifest
from zoo.refs import LOCAL
from zoo.specs import CheckpointSpec, ModelSpec

NOBODYS = "none needed"
"""Instead of a licence class, where there are no weights, or only the user's own."""


@dataclass(frozen=True, kw_only=True)
class LicensedModel:
    """One model and the terms it comes under.

    asked: as the reference was written. ref: canonical. distribution, version: of the plugin, empty for none. license:
    of the weights, empty for none or one's own; license_class: one of `zoo.catalog.licenses.CLASSES`, or `NOBODYS`.
    gated: the host asks for acceptance. data: what the weights were trained on.
    """

    asked: str
    ref: str
    distribution: str = ""
    version: str = ""
    code_license: str = ""
    license: str = ""
    license_class: str = NOBODYS
    gated: bool = False
    notes: str = ""
    paper: str = ""
    data: tuple[DataTerms, ...] = ()
    files: tuple[LockedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LicenseReport:
    """The models, the packages their code needs, and what somebody has to look at."""

    models: tuple[LicensedModel, ...]
    packages: tuple[Package, ...]
    attention: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        models = [
            {**asdict(m), "data": [d._asdict() for d in m.data], "files": [f._asdict() for f in m.files]}
            for m in self.models
        ]
        packages = [package._asdict() for package in self.packages]
        return {"attention": list(self.attention), "models": models, "packages": packages}


def report(models: Iterable[LicensedModel]) -> LicenseReport:
    """The report on these models, and on zoo-core and everything their plugins require."""
    listed = tuple(models)
    packages = tuple(packages_of(["zoo-core", *(m.distribution for m in listed if m.distribution)]))
    return LicenseReport(models=listed, packages=packages, attention=tuple(_attention(listed, packages)))


def of_refs(refs: Sequence[str]) -> list[LicensedModel]:
    """The models that references mean. Raises what resolving them raises."""
    store = Store()
    return [_of_ref(ref, store) for ref in refs]


def of_lock(lock: Lock) -> list[LicensedModel]:
    """The models of a lock, with its licences and files; the rest as the catalogue has it, where it knows them."""
    return [_of_entry(ref, entry) for ref, entry in sorted(lock.models.items())]


def of_this_machine() -> list[LicensedModel]:
    """Published weights of the catalogue that are in this machine's store, other published files in it, and
    everything in the user's registry."""
    from zoo.versions.registry import ModelRegistry

    store = Store()
    found: dict[str, LicensedModel] = {}
    explained: set[str] = set()
    for model, checkpoint, plugin in _published():
        explained |= set(checkpoint.sources)
        sha256 = _digest_here(checkpoint, store)
        if sha256 and sha256 not in found:
            ref = f"{plugin}/{model.name}.{checkpoint.name}@{model.version}"
            found[sha256] = _of_ref(ref, store)
    others = [
        _of_pin(str(record["source"]), str(record["sha256"]), store)
        for _, record in store.records.every("pins")
        if {"source", "sha256"} <= record.keys() and record["sha256"] not in found
        if record["source"] not in explained and not str(record["source"]).endswith(f"/{CONFIG}")
    ]
    registered = [_of_ref(record.ref, store) for record in ModelRegistry().list()]
    return [*sorted(found.values(), key=lambda m: m.ref), *others, *registered]


def _published() -> Iterator[tuple[ModelSpec, CheckpointSpec, str]]:
    """Every checkpoint of every installed plugin; curated names before the long lists."""
    specs = []
    for plugin in open_catalog().plugins():
        with suppress(ZooError):
            if plugin.state == "ok" and plugin.manifest:
                specs.append(read_manifest(plugin.manifest))
    for spec in sorted(specs, key=lambda spec: len(spec.models)):
        for model in spec.models:
            for checkpoint in model.checkpoints:
                yield model, checkpoint, spec.namespace


def _digest_here(checkpoint: CheckpointSpec, store: Store) -> str:
    """The digest of a checkpoint's file if the store has it; hashes nothing."""
    if checkpoint.sha256:
        return checkpoint.sha256.lower() if store.holds(checkpoint.sha256.lower()) else ""
    pins = (store.pin(source) for source in checkpoint.sources)
    return next((pin.sha256 for pin in pins if pin and store.holds(pin.sha256)), "")


def _of_ref(ref: str, store: Store) -> LicensedModel:
    if ref.startswith(LOCAL):
        from zoo.versions.addresses import Address
        from zoo.versions.registry import ModelRegistry

        record = ModelRegistry().show(*Address.parse(ref))
        return _of_description(ref, record.ref, record.saved, (LockedFile(record.sha256, record.size, ()),), "")
    if "://" in ref:
        if is_saved(ref):
            return _of_saved(ref, store)
        return _of_pin(ref, "", store)
    info = open_catalog().info(ref)
    model = _of_catalogue(ref, info.ref, info.model, info.checkpoint)
    facts = files_of(info.checkpoint, store) if info.checkpoint is not None else ()
    files = tuple(LockedFile(f.sha256 or "", f.size, f.sources) for f in facts)
    return replace(model, distribution=info.plugin.distribution, version=info.plugin.version, files=files)


def _of_catalogue(asked: str, ref: str, model: ModelSpec, checkpoint: CheckpointSpec | None) -> LicensedModel:
    known = LicensedModel(asked=asked, ref=ref, code_license=model.license, paper=model.paper)
    if checkpoint is None:
        return known
    return replace(
        known,
        license=checkpoint.license,
        license_class=classify(checkpoint.license),
        gated=checkpoint.gated,
        notes=checkpoint.notes,
        paper=checkpoint.paper or model.paper,
        data=tuple(map(data_terms, checkpoint.trained_on)),
    )


def _of_saved(ref: str, store: Store) -> LicensedModel:
    """A saved model whose description is on this machine; of another nothing is known."""
    config = stored((f"{ref}/{CONFIG}",), store=store)
    unstated = "unknown" if ref.startswith("hf://") else ""
    if config is None:
        return LicensedModel(asked=ref, ref=ref, license=unstated, license_class=classify(unstated))
    return _of_description(ref, ref, read_description(config.path), (), unstated)


def _of_description(
    asked: str, ref: str, saved: Mapping[str, Any], files: tuple[LockedFile, ...], unstated: str
) -> LicensedModel:
    """A saved or registered model: what it was made from says what it was trained on."""
    provenance = saved.get("provenance") if isinstance(saved.get("provenance"), dict) else {}
    license = str((provenance or {}).get("license", "")) or unstated
    base = str((provenance or {}).get("ref", ""))
    known = LicensedModel(asked=asked, ref=ref)
    with suppress(ZooError):
        info = open_catalog().info(base)
        known = replace(
            _of_catalogue(asked, ref, info.model, info.checkpoint), notes=f"made from {base}" if base != ref else ""
        )
    plugin = plugin_of(str(saved.get("factory", "")))
    return replace(
        known,
        distribution=plugin.distribution if plugin else "",
        version=plugin.version if plugin else "",
        license=license,
        license_class=classify(license) if license else NOBODYS,
        gated=False,
        files=files,
    )


def _of_pin(source: str, sha256: str, store: Store) -> LicensedModel:
    """A weights file that no catalogue knows."""
    license = known_license(CheckpointSpec(name="file", sources=(source,)), store, network=False)
    license_class = classify(license) if license else NOBODYS
    files = (LockedFile(sha256, None, (source,)),)
    return LicensedModel(asked=source, ref=source, license=license, license_class=license_class, files=files)


def _of_entry(ref: str, entry: LockedModel) -> LicensedModel:
    known = LicensedModel(asked=ref, ref=entry.ref)
    with suppress(ZooError):
        known = replace(_of_ref(entry.ref, Store()), asked=ref)
    return replace(
        known,
        distribution=entry.distribution,
        version=entry.version,
        code_license=entry.code_license or known.code_license,
        license=entry.license,
        license_class=classify(entry.license) if entry.license else NOBODYS,
        files=entry.files,
    )


def _attention(models: Sequence[LicensedModel], packages: Sequence[Package]) -> Iterator[str]:
    """One line for everything that is not simply permissive: weights, then data, then code."""
    for model in models:
        if model.license_class not in (NOBODYS, "permissive"):
            said = "nobody states a licence" if model.license_class == "unknown" else model.license_class
            yield f"weights of {model.asked}: {model.license or 'unknown'} ({said})"
        if model.gated:
            yield f"weights of {model.asked}: their host asks you to accept terms"
    trained: dict[DataTerms, list[str]] = {}
    for model in models:
        for data in model.data:
            trained.setdefault(data, []).append(model.asked)
    for data, names in sorted(trained.items()):
        if data.license_class != "permissive":
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            yield f"training data {data.name}: {data.license_class}, of {shown}"
    for model in models:
        if model.code_license and classify(model.code_license) != "permissive":
            yield f"code of {model.asked}: {model.code_license} ({classify(model.code_license)})"
    for package in packages:
        if package.license_class != "permissive":
            yield f"package {package.name} {package.version}: {package.license} ({package.license_class})"
