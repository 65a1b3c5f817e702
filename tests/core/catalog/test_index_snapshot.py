"""The snapshot inside core says what the first-party plugins of this workspace offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.catalog import open_catalog
from zoo.catalog.names import BARE
from zoo.index.snapshot import FOLDER, slim, snapshot_files, text
from zoo.plugin import manifest

WORKSPACE = Path(__file__).parents[3]
MANIFESTS = sorted(WORKSPACE.glob("plugins/*/src/*/zoo.json"))


def test_every_plugin_of_the_workspace_is_in_the_snapshot_and_nothing_else() -> None:
    packages = [path.parent.name.removeprefix("zoo_") for path in MANIFESTS]
    assert sorted(snapshot_files()) == sorted(packages) != []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_the_snapshot_has_not_drifted(path: Path) -> None:
    spec = manifest.read(str(path))
    kept = Path(FOLDER, f"{spec.namespace}.json").read_text(encoding="utf-8")
    assert kept == text(spec), f"python -m zoo.index.snapshot {path.relative_to(WORKSPACE)}"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_slim_manifest_is_a_manifest_with_every_model_and_no_more_than_it_needs(path: Path) -> None:
    whole = manifest.read(str(path))
    kept = manifest.read(snapshot_files()[whole.namespace])
    assert kept == slim(whole)
    for model, original in zip(kept.models, whole.models, strict=True):
        assert (model.name, model.params, model.license, model.aliases, model.task, model.version) == (
            original.name,
            original.params,
            original.license,
            original.aliases,
            original.task,
            original.version,
        )
        assert [(c.name, c.license, c.aliases) for c in model.checkpoints] == [
            (c.name, c.license, c.aliases) for c in original.checkpoints
        ]
        assert not model.config
    assert not kept.schemas
    assert not whole.models or Path(snapshot_files()[whole.namespace]).stat().st_size < path.stat().st_size / 2


def test_every_name_of_the_workspace_can_be_explained_without_its_plugin() -> None:
    catalog = open_catalog()
    for path in MANIFESTS:
        spec = manifest.read(str(path))
        for model in spec.models[:30]:
            info = catalog.info(f"{spec.namespace}/{model.name}")
            assert (info.status, info.fix) == ("available", f"pip install zoo-{spec.namespace}")


def test_no_bare_name_or_published_name_is_given_twice() -> None:
    """What may be used bare means one thing, whichever first-party plugins are installed."""
    meaning: dict[str, str] = {}
    core = Path(FOLDER).parents[1] / "zoo.json"
    for path in [core, *MANIFESTS]:
        spec = manifest.read(str(path))
        if spec.namespace not in BARE:
            continue
        for model in spec.models:
            for name in {model.name, *model.aliases, *(a for c in model.checkpoints for a in c.aliases)}:
                where = f"{spec.namespace}/{model.name}"
                assert meaning.setdefault(name, where) == where
