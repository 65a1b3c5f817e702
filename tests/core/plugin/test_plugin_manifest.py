"""Manifests are read as the work of a stranger: a valid one without loss, anything else as a ManifestError."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from synthetic_plugins import Site, manifest_of
from zoo.errors import ManifestError
from zoo.plugin import manifest
from zoo.plugin.manifest import IncompatibleError, NoManifestError, locate, parse, read, read_header, write
from zoo.plugin.scanner import EntryPoint
from zoo.specs import CheckpointSpec, InputSpec, Metric, ModelSpec, PluginSpec

names = st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True)
printable = st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), include_characters="\n\t"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | printable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(printable, json_values, max_size=3)
checkpoints = st.builds(
    CheckpointSpec,
    name=names,
    sources=st.lists(st.sampled_from(["hf://o/r@1/f", "pkg://d/p.pth", "file:///x"]), min_size=1, max_size=2).map(
        tuple
    ),
    sha256=st.none() | st.just("0a" * 32),
    size=st.none() | st.integers(0, 2**40),
    input=st.builds(InputSpec, crop_pct=st.floats(0.1, 1), pad_value=st.none() | st.floats(0, 255)),
    config=mappings,
    metrics=st.lists(st.builds(Metric, name=names, value=st.floats(-9, 9), dataset=printable, conditions=mappings)).map(
        tuple
    ),
    notes=printable,
)
models = st.builds(
    ModelSpec,
    name=names,
    factory=st.just("zoo_acme.tiny:Tiny"),
    config=mappings,
    version=st.integers(1, 9),
    summary=printable,
    checkpoints=st.lists(checkpoints, max_size=2, unique_by=lambda c: c.name).map(tuple),
    params=st.none() | st.integers(0, 2**40),
)
plugins = st.builds(
    PluginSpec,
    namespace=st.just("acme"),
    distribution=st.sampled_from(["zoo-acme", "Zoo_Acme"]),
    summary=printable,
    models=st.lists(models, max_size=3, unique_by=lambda m: m.name).map(tuple),
    schemas=mappings,
)


@settings(deadline=None)
@given(plugins)
def test_what_is_written_is_read_back(spec: PluginSpec) -> None:
    text = write(spec)
    assert parse(text.encode()) == spec
    assert write(parse(text.encode())) == text


def test_a_header_is_the_plugin_without_its_rows(site: Site) -> None:
    site.plugin("acme", summary="s", schemas={"a": {}})
    path = str(site.folder / "zoo_acme" / "zoo.json")
    assert read_header(path) == replace(read(path), models=(), schemas={})
    site.plugin("acme", api=[9, 9])
    with pytest.raises(IncompatibleError):
        read_header(path)


def test_equal_plugins_give_equal_bytes_whatever_order_they_were_made_in() -> None:
    one, other = ({"a": 1, "b": {"c": [2], "d": 3}}, {"b": {"d": 3, "c": [2]}, "a": 1})
    specs = [PluginSpec(namespace="a", distribution="zoo-a", schemas=schemas) for schemas in (one, other)]
    assert write(specs[0]) == write(specs[1])
    assert write(specs[0]).endswith("}\n")


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.text().map(str.encode) | json_values.map(json.dumps).map(str.encode))
def test_junk_raises_only_a_manifest_error(junk: bytes) -> None:
    with pytest.raises(ManifestError):
        parse(junk)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_sound_manifest_with_one_value_replaced_by_junk_is_read_or_refused(data: st.DataObject) -> None:
    value = manifest_of("acme", api=[1, 1], summary="s", requires=["torch"], hooks=["read_weights"], schemas={"a": {}})
    value["models"][0] |= {"checkpoints": [{"name": "c", "sources": ["hf://a/b"], "input": {"size": [8, 8]}}]}
    place: object = value
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]  # type: ignore[index]  # any JSON
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(json_values)  # type: ignore[index]  # any JSON
    with suppress(ManifestError):
        assert isinstance(parse(json.dumps(value).encode()), PluginSpec)


def edited(**changes: object) -> str:
    return json.dumps(manifest_of("acme") | changes)


def row(**changes: object) -> str:
    value = manifest_of("acme")
    value["models"][0] |= changes
    return json.dumps(value)


def two_rows(**changes: object) -> str:
    return edited(models=[*manifest_of("acme")["models"], {"name": "b", "factory": "a:B", **changes}])


def checkpoint(**changes: object) -> str:
    return row(checkpoints=[{"name": "c", "sources": ["hf://a/b"], **changes}])


HOSTILE = {
    "empty": ("", "not JSON"),
    "broken": ('{"schema": 1,', "not JSON"),
    "a list": ("[]", "expected an object"),
    "not UTF-8": (b'{"schema": 1, "namespace": "\xff"}', "not UTF-8"),
    "deep lists": ("[" * 100_000, "nested"),
    "deep objects": ('{"a":' * 100_000, "nested"),
    "deep enough to hurt later": ('{"schema": 1, "schemas": ' + '{"a":' * 40 + "1" + "}" * 41, "nested"),
    "NaN": ('{"schema": 1, "schemas": {"a": NaN}}', "NaN"),
    "Infinity": ('{"schema": 1, "schemas": {"a": -Infinity}}', "Infinity"),
    "a number that overflows": ('{"schema": 1, "schemas": {"a": 1e999}}', "not finite"),
    "an integer of thousands of digits": ('{"schema": 1, "schemas": {"a": ' + "9" * 10_000 + "}}", "not JSON"),
    "an integer no database takes": ('{"schema": 1, "schemas": {"a": ' + "9" * 20 + "}}", "64 bits"),
    "a key twice": ('{"schema": 1, "namespace": "a", "namespace": "b"}', "twice"),
    "a lone surrogate": ('{"schema": 1, "summary": "\\ud800"}', "character 0xd800"),
    "a terminal command": ('{"schema": 1, "summary": "\\u001b[2J"}', "character 0x001b"),
    "a terminal command in a key": ('{"schema": 1, "schemas": {"\\u009b2J": 1}}', "character 0x009b"),
    "text that runs backwards": ('{"schema": 1, "summary": "\\u202egnp.exe"}', "character 0x202e"),
    "no schema": ("{}", "`schema`"),
    "schema 0": ('{"schema": 0}', "`schema`"),
    "schema true": ('{"schema": true}', "`schema`"),
    "schema text": ('{"schema": "1"}', "`schema`"),
    "api a text": (edited(api="11"), "`api`"),
    "api reversed": (edited(api=[2, 1]), "`api`"),
    "an unknown field": (edited(run="rm"), "unknown field 'run'"),
    "no namespace": ('{"schema": 1}', "namespace"),
    "a namespace that is no name": (edited(namespace="../x", distribution="zoo-../x"), "not a name"),
    "another's distribution": (edited(distribution="zoo-cnn"), "belongs to the distribution zoo-acme"),
    "requires a path": (edited(requires=["../x"]), "not an import name"),
    "models an object": (edited(models={}), "expected a list"),
    "models of numbers": (edited(models=[1]), "models[0]"),
    "a name twice": (edited(models=manifest_of("acme")["models"] * 2), "stands twice"),
    "a name with a dot": (row(name="a.b"), "not a name"),
    "an empty name": (row(name=""), "not a name"),
    "a factory that is code": (row(factory="os:system('ls')"), "factory"),
    "a factory without a class": (row(factory="os"), "factory"),
    "version 0": (row(version=0), "version"),
    "params a boolean": (row(params=True), "params"),
    "params negative": (row(params=-1), "params"),
    "channels without strides": (row(channels=[1]), "do not pair up"),
    "stride 0": (row(channels=[1], strides=[0]), "do not pair up"),
    "an unknown kind": (row(kind="trojan"), "kind"),
    "an input of nothing": (row(input={"size": [0, 0]}), "size"),
    "an alias of another row": (two_rows(aliases=["tiny"]), "already means tiny"),
    "an alias with a line break": (row(aliases=["a\nb"]), "alias"),
    "an empty alias": (row(aliases=[""]), "alias"),
    "an alias twice": (row(aliases=["a", "a"]), "already means tiny"),
    "a checkpoint twice": (row(checkpoints=[{"name": "c", "sources": ["hf://a/b"]}] * 2), "stands twice"),
    "a checkpoint's alias that is a row": (checkpoint(aliases=["tiny.c"]), "already means tiny.c"),
    "a digest of the wrong length": (checkpoint(sha256="ab"), "sha256"),
    "a digest in capitals": (checkpoint(sha256="AB" * 32), "sha256"),
    "a negative size": (checkpoint(size=-1), "size"),
    "no sources": (checkpoint(sources=[]), "no sources"),
    "a source without a scheme": (checkpoint(sources=["/etc/passwd"]), "scheme"),
    "a format the model has not": (checkpoint(format="pickle"), "format"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_manifest_is_refused_and_told_why(what: str) -> None:
    content, why = HOSTILE[what]
    with pytest.raises(ManifestError) as refused:
        parse(content.encode() if isinstance(content, str) else content)
    assert not isinstance(refused.value, IncompatibleError)
    assert why in refused.value.message


def test_models_and_backbones_share_their_names_and_heads_do_not() -> None:
    model = manifest_of("acme")["models"][0]
    assert parse(edited(models=[model, {**model, "kind": "head"}, {**model, "kind": "neck"}]).encode())
    with pytest.raises(ManifestError, match="stands twice"):
        parse(edited(models=[model, {**model, "kind": "backbone"}]).encode())


@pytest.mark.parametrize(
    ("text", "core_is_old"),
    [
        (edited(schema=2, anything={"new": "layout"}), True),
        (edited(api=[2, 3], new_field=True), True),
        (edited(api=[0, 0]), False),
    ],
)
def test_another_api_or_layout_is_told_before_anything_else_is_looked_at(text: str, core_is_old: bool) -> None:
    with pytest.raises(IncompatibleError) as refused:
        parse(text.encode())
    assert refused.value.core_is_old is core_is_old


def test_a_manifest_that_is_too_large_is_not_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.folder / "zoo.json"
    with open(path, "wb") as stream:
        stream.truncate(manifest.MAX_BYTES + 1)  # a hole: it takes no disk
    with pytest.raises(ManifestError, match="67,108,865 bytes"):
        read(str(path))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_manifest_that_is_no_file_is_refused_without_waiting(site: Site, kind: str) -> None:
    path = site.folder / "zoo.json"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    with pytest.raises(ManifestError, match="not a file"):
        read(str(path))


def entry(value: str) -> EntryPoint:
    return EntryPoint("zoo.plugins", "acme", value, "zoo-acme", "1.0", "")


@pytest.mark.parametrize(
    "value",
    [
        "zoo_acme",
        "zoo_acme:",
        ":zoo.json",
        "zoo_acme:../../etc/passwd",
        "zoo_acme:/etc/passwd",
        "zoo_acme:a/../../b",
        "zoo_acme:./zoo.json",
        "zoo_acme:a//b",
        "zoo_acme:..\\zoo.json",
        "zoo_acme:C:/zoo.json",
        "zoo_acme:a\0b",
        "../zoo_acme:zoo.json",
        "zoo_acme..x:zoo.json",
        "zoo-acme:zoo.json",
    ],
)
def test_an_entry_point_that_leads_out_of_its_package_is_refused(site: Site, value: str) -> None:
    site.write({"zoo_acme/__init__.py": "", "zoo_acme/zoo.json": "{}", "zoo_acme/a/b": "", "zoo.json": "{}", "b": ""})
    with pytest.raises(ManifestError) as refused:
        locate(entry(value), [str(site.folder)])
    assert not isinstance(refused.value, NoManifestError)


def test_a_manifest_is_found_without_importing_its_package(site: Site) -> None:
    site.write(
        {"zoo_acme/__init__.py": "raise SystemExit", "zoo_acme/sub/__init__.py": "", "zoo_acme/sub/x/z.json": ""}
    )
    assert locate(entry(" zoo_acme.sub : x/z.json "), [str(site.folder)]) == str(site.folder / "zoo_acme/sub/x/z.json")
    assert "zoo_acme" not in sys.modules


def test_a_package_is_looked_for_as_the_import_system_would(site: Site, new_site: Callable[[str], Site]) -> None:
    shadow, regular = new_site("shadow"), new_site("regular")
    shadow.write({"zoo_acme/zoo.json": "a folder of that name, no package"})
    regular.write({"zoo_acme/__init__.py": "", "zoo_acme/zoo.json": "the package"})
    site.write({"zoo_acme/__init__.py": "", "zoo_acme/zoo.json": "a later copy"})
    paths = [str(s.folder) for s in (shadow, regular, site)]
    assert locate(entry("zoo_acme:zoo.json"), paths) == str(regular.folder / "zoo_acme/zoo.json")
    assert locate(entry("zoo_acme:zoo.json"), paths[:1]) == str(shadow.folder / "zoo_acme/zoo.json")


def test_a_regular_package_without_its_manifest_takes_none_from_elsewhere(
    site: Site, new_site: Callable[[str], Site]
) -> None:
    site.write({"zoo_acme/__init__.py": ""})
    other = new_site("other")
    other.write({"zoo_acme/zoo.json": "{}"})
    with pytest.raises(NoManifestError) as missing:
        locate(entry("zoo_acme:zoo.json"), [str(other.folder), str(site.folder)])
    assert missing.value.found == str(site.folder / "zoo_acme" / "zoo.json")


class EditableFinder:
    """What editable installs of setuptools put on `sys.meta_path`."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package, self.folder = package, folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.package:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(self.folder)]
        return spec


def test_a_package_that_only_an_import_hook_knows_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write({"elsewhere/__init__.py": "raise SystemExit", "elsewhere/sub/zoo.json": "{}"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, EditableFinder("zoo_acme", site.folder / "elsewhere")])
    assert locate(entry("zoo_acme.sub:zoo.json")) == str(site.folder / "elsewhere" / "sub" / "zoo.json")
    with pytest.raises(NoManifestError, match="not on sys"):
        locate(entry("zoo_other:zoo.json"))


def test_an_import_hook_that_raises_is_taken_as_not_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            raise RuntimeError("a broken hook")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Broken()])
    with pytest.raises(NoManifestError):
        locate(entry("zoo_acme_nowhere:zoo.json"))
