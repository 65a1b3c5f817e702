"""`zoo licenses`: facts with their sources, and on top what somebody has to look at."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import zoo as library
from synthetic_plugins import Site, manifest_of
from zoo.catalog.datasets import CLASSES, data_terms, known_data
from zoo.catalog.packages import packages_of
from zoo.checkpoints.store import Store
from zoo_command import zoo

BASE = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A plugin with four checkpoints under licences of every kind, which requires packages of every kind."""
    site = Site(tmp_path / "site")
    manifest = manifest_of("acme")
    rows: list[dict[str, Any]] = [
        {"name": "free", "license": "MIT", "trained_on": ["sa-v"]},
        {"name": "bound", "license": "CC-BY-NC-4.0", "trained_on": ["imagenet-1k", "cats-3"], "gated": True},
        {"name": "silent", "paper": "arXiv:1", "notes": "a note"},
    ]
    for row in rows:
        (tmp_path / f"{row['name']}.safetensors").write_bytes(row["name"].encode())
        row["sources"] = [f"https://127.0.0.1:9/{row['name']}.safetensors"]
    manifest["models"][0] |= {"checkpoints": rows, "license": "Apache-2.0"}
    folder = site.plugin("acme", manifest)
    needs = "Requires-Dist: zoolic-gpl>=1\nRequires-Dist: zoolic-absent\nRequires-Dist: zoolic-extra; extra == 'x'\n"
    (folder / "METADATA").write_text(BASE.format("zoo-acme") + "License-Expression: MIT\n" + needs)
    packages = {
        "zoolic-gpl": "License-Expression: GPL-3.0-only\nRequires-Dist: Zoolic_Old (>=1)\n",
        "zoolic-old": "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n"
        "Requires-Dist: zoolic-gpl\n",
        "zoolic-extra": "License: MIT\n",
    }
    for name, metadata in packages.items():
        folder = site.install(name)
        (folder / "METADATA").write_text(BASE.format(name) + metadata)
        (folder / "LICENSE").write_text(f"You may read {name}.")
        (folder / "RECORD").write_text(f"{folder.name}/LICENSE,,\n{folder.name}/METADATA,,\n")
    return site


def licenses(site: Site, *words: str, cwd: Path | None = None) -> Any:
    told = zoo("licenses", *words, "--json", site=site.folder, cwd=cwd or site.folder, env={"ZOO_PLUGINS": "acme"})
    assert told.code == 0, told.err
    return json.loads(told.out)


def test_every_fact_of_a_model_is_in_the_report(site: Site) -> None:
    (model,) = licenses(site, "acme/tiny.bound")["models"]
    assert (model["ref"], model["distribution"], model["version"]) == ("acme/tiny.bound@1", "zoo-acme", "1.0")
    assert (model["code_license"], model["license"], model["license_class"]) == (
        "Apache-2.0",
        "CC-BY-NC-4.0",
        "non-commercial",
    )
    assert model["gated"] is True
    imagenet, cats = model["data"]
    assert (imagenet["license_class"], cats["license_class"]) == ("non-commercial", "unknown")
    assert "image-net.org" in imagenet["source"]
    assert model["files"][0]["sources"] == ["https://127.0.0.1:9/bound.safetensors"]
    (silent,) = licenses(site, "acme/tiny.silent")["models"]
    assert (silent["license"], silent["license_class"]) == ("unknown", "unknown")
    assert (silent["paper"], silent["notes"]) == ("arXiv:1", "a note")


def test_what_needs_attention_stands_on_top_and_nothing_else(site: Site) -> None:
    def said(*refs: str) -> list[str]:
        lines = licenses(site, *refs)["attention"]
        return [line for line in lines if not line.startswith("package") or "zoolic" in line]

    gpl = "package zoolic-gpl 1.0: GPL-3.0-only (copyleft)"
    assert said("acme/tiny.free") == [gpl]
    assert said("acme/tiny.bound", "acme/tiny.silent") == [
        "weights of acme/tiny.bound: CC-BY-NC-4.0 (non-commercial)",
        "weights of acme/tiny.bound: their host asks you to accept terms",
        "weights of acme/tiny.silent: unknown (nobody states a licence)",
        "training data cats-3: unknown, of acme/tiny.bound",
        "training data imagenet-1k: non-commercial, of acme/tiny.bound",
        gpl,
    ]
    text = zoo("licenses", "acme/tiny.bound", site=site.folder, cwd=site.folder, env={"ZOO_PLUGINS": "acme"}).out
    assert text.startswith("to look at (")
    assert text.index("CC-BY-NC-4.0 (non-commercial)") < text.index("MODEL")


def test_packages_are_followed_to_what_they_require(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site.folder))
    found = {package.name: package for package in packages_of(["zoo_acme", "no such thing"])}
    assert sorted(found) == ["zoo-acme", "zoolic-gpl", "zoolic-old"]
    assert (found["zoolic-gpl"].license, found["zoolic-gpl"].license_class) == ("GPL-3.0-only", "copyleft")
    assert (found["zoo-acme"].license, found["zoo-acme"].license_class) == ("MIT", "permissive")
    assert [Path(path).name for path in found["zoolic-old"].texts] == ["LICENSE"]


@pytest.mark.parametrize(
    ("metadata", "license", "license_class"),
    [
        ("License-Expression: MIT OR GPL-3.0\nLicense: GPL-3.0\n", "MIT OR GPL-3.0", "permissive"),
        ("License: Apache License 2.0\n", "Apache-2.0", "permissive"),
        ("License: BSD\n", "BSD", "permissive"),
        ("Classifier: License :: OSI Approved :: Apache Software License\n", "Apache-2.0", "permissive"),
        (
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)\n",
            "MIT AND MPL-2.0",
            "copyleft",
        ),
        ("License: " + "word " * 50 + "\n", "unknown", "unknown"),
        ("License: my own\n", "my own", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_a_packages_licence_is_what_it_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str, license: str, license_class: str
) -> None:
    site = Site(tmp_path / "site")
    (site.install("zoolic-one") / "METADATA").write_text(BASE.format("zoolic-one") + metadata)
    monkeypatch.syspath_prepend(str(site.folder))
    (package,) = packages_of(["zoolic-one"])
    assert (package.license, package.license_class) == (license, license_class)


def test_every_known_data_set_has_a_source_and_the_rest_is_unknown() -> None:
    assert len(known_data()) > 20
    for data in known_data():
        assert data.license_class in CLASSES
        assert data.license_class != "unknown"
        assert re.fullmatch(r"https://\S+", data.source), data.name
        assert data_terms(data.name.upper() + "/train") == data
    assert data_terms("cats-3") == ("cats-3", "unknown", "unknown", "")


def test_most_data_sets_of_the_catalogue_are_known() -> None:
    from zoo.build.licensing import _published

    named = {name for _, checkpoint, _ in _published() for name in checkpoint.trained_on}
    unknown = {name for name in named if data_terms(name).license_class == "unknown"}
    assert "imagenet-1k" in named
    assert len(unknown) * 4 < len(named), unknown


def test_without_references_the_lock_here_or_else_this_machine_is_told_about(site: Site, tmp_path: Path) -> None:
    assert licenses(site)["models"] == []
    store = Store()
    blob = store.put([b"bound"])
    store.remember_pin("https://127.0.0.1:9/bound.safetensors", blob.sha256, "https://127.0.0.1:9/bound.safetensors")
    other = store.put([b"other"])
    store.remember_pin("hf://who/knows/model.safetensors", other.sha256, "hf://who/knows@main/model.safetensors")
    library.register_model(library.create("resnet18", num_classes=2), name="pets", version="1.0.0")
    told = {model["asked"]: model for model in licenses(site)["models"]}
    assert list(told) == ["acme/tiny.bound@1", "hf://who/knows/model.safetensors", "local/pets@1.0.0"]
    assert told["hf://who/knows/model.safetensors"]["license_class"] == "unknown"
    assert told["local/pets@1.0.0"]["license_class"] == "none needed"
    env = {"ZOO_PLUGINS": "acme"}
    assert zoo("lock", "classifier", site=site.folder, cwd=tmp_path, env=env).code == 0
    assert [model["asked"] for model in licenses(site, cwd=tmp_path)["models"]] == ["classifier"]


def test_asking_for_licences_is_no_use_of_the_weights(site: Site) -> None:
    store, source = Store(), "https://127.0.0.1:9/bound.safetensors"
    blob = store.put([b"bound"])
    store.remember_pin(source, blob.sha256, source)
    os.utime(blob.path, (1, 1))
    assert [model["asked"] for model in licenses(site)["models"]] == ["acme/tiny.bound@1"]
    assert store.uses.last(blob.sha256, 0.0) == 0.0


def test_a_lock_tells_its_own_licences_and_digests(site: Site, tmp_path: Path) -> None:
    store = Store()
    blob = store.put([b"free"])
    store.remember_pin("https://127.0.0.1:9/free.safetensors", blob.sha256, "https://127.0.0.1:9/free.safetensors")
    env = {"ZOO_PLUGINS": "acme"}
    assert zoo("lock", "acme/tiny.free", site=site.folder, cwd=tmp_path, env=env).code == 0
    lock = tmp_path / "zoo.lock"
    lock.write_text(lock.read_text().replace('"license": "MIT"', '"license": "gemma"'))
    (model,) = licenses(site, "--lock", str(lock))["models"]
    assert (model["license"], model["license_class"]) == ("gemma", "restricted")
    assert model["files"][0]["sha256"] == blob.sha256
    assert [data["name"] for data in model["data"]] == ["sa-v"]
    gone = zoo("licenses", "--lock", str(lock), "--json", cwd=tmp_path, env={"ZOO_NO_PLUGINS": "1"})
    (model,) = json.loads(gone.out)["models"]
    assert (model["license"], model["distribution"]) == ("gemma", "zoo-acme")


def test_a_model_made_from_somebodys_weights_tells_theirs(site: Site) -> None:
    model = library.create("resnet18", num_classes=2)
    model.provenance = library.Provenance(ref="cnn/resnet18.a1_in1k@1", license="Apache-2.0")
    library.register_model(model, name="pets", version="1.0.0")
    told = zoo("licenses", "local/pets", "--json", cwd=site.folder)
    (found,) = json.loads(told.out)["models"]
    assert (found["license"], found["ref"]) == ("Apache-2.0", "local/pets@1.0.0")
    assert [data["name"] for data in found["data"]] == ["imagenet-1k"]
    assert "cnn/resnet18.a1_in1k@1" in found["notes"]


def test_the_report_is_written_as_a_document_with_the_texts(site: Site, tmp_path: Path) -> None:
    env = {"ZOO_PLUGINS": "acme"}
    path = tmp_path / "THIRD_PARTY.md"
    words = ("licenses", "acme/tiny.bound", "--texts", "-o", str(path))
    told = zoo(*words, site=site.folder, cwd=tmp_path, env=env)
    assert told.code == 0, told.err
    text = path.read_text()
    assert text.startswith("# Licences")
    for said in (
        "### acme/tiny.bound",
        "non-commercial",
        "image-net.org",
        "| zoolic-gpl | 1.0 |",
        "You may read zoolic-gpl.",
    ):
        assert said in text, said
    assert "You may read zoolic-extra." not in text
    zoo("licenses", "acme/tiny.bound", "-o", str(tmp_path / "report.json"), site=site.folder, cwd=tmp_path, env=env)
    assert json.loads((tmp_path / "report.json").read_text())["models"]
    refused = zoo("licenses", "acme/tiny.free", "-o", "absent/r.md", site=site.folder, cwd=tmp_path, env=env)
    assert (refused.code, refused.out) == (1, "")
    assert "cannot be written" in refused.err
    assert zoo("licenses", "--format", "pdf", cwd=tmp_path).code == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tmp") == []


def test_a_strangers_words_cannot_break_the_table(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    manifest = manifest_of("acme")
    row = {"name": "v1", "sources": ["file://x"], "license": "a | b", "notes": "line\n# heading"}
    manifest["models"][0]["checkpoints"] = [row]
    site.plugin("acme", manifest)
    words = ("licenses", "acme/tiny", "--format", "markdown")
    text = zoo(*words, site=site.folder, cwd=tmp_path, env={"ZOO_PLUGINS": "acme"}).out
    assert "a \\| b" in text
    assert "\n# heading" not in text
