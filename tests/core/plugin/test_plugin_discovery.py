"""Discovery keeps every plugin with its state, reason and fix; a broken one harms no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synthetic_plugins import Site, manifest_of
from zoo.errors import PluginError
from zoo.plugin.discovery import discover
from zoo.plugin.stamps import unchanged
from zoo.plugin.state import STATES, PluginRecord, as_error

REINSTALL = "pip install --force-reinstall --no-deps zoo-acme"


def broken(site: Site) -> None:
    site.plugin("acme", '{"schema": 1,')


def missing(site: Site) -> None:
    site.plugin("acme", ...)


def nowhere(site: Site) -> None:
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme_nowhere:zoo.json")


def huge(site: Site) -> None:
    site.plugin("acme")
    with open(site.folder / "zoo_acme" / "zoo.json", "r+b") as stream:
        stream.truncate(65 << 20)


def hostile(site: Site) -> None:
    site.plugin("acme", '{"a":' * 200_000)


def outside(site: Site) -> None:
    site.plugin("acme")
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:../../../etc/passwd")


def newer(site: Site) -> None:
    site.plugin("acme", api=[7, 9], field_of_the_future=1)


def older(site: Site) -> None:
    site.plugin("acme", api=[0, 0])


def newer_layout(site: Site) -> None:
    site.plugin("acme", {"schema": 2, "plugin": {}})


def lies_by_distribution(site: Site) -> None:
    site.plugin("acme", distribution="evil-acme")


def lies_by_manifest(site: Site) -> None:
    site.plugin("acme", manifest_of("fine"))


def needs_more(site: Site) -> None:
    site.plugin("acme", requires=["json", "zoo_no_such_package.sub", "sys"])


QUARANTINED = {
    broken: ("invalid-manifest", "not JSON", REINSTALL),
    missing: ("manifest-missing", "no `zoo.json` in the package `zoo_acme`", REINSTALL),
    nowhere: ("manifest-missing", "the package `zoo_acme_nowhere` is not on sys.path", REINSTALL),
    huge: ("invalid-manifest", "68,157,440 bytes", REINSTALL),
    hostile: ("invalid-manifest", "nested too deep", REINSTALL),
    outside: ("invalid-manifest", "with a file inside the package", REINSTALL),
    newer: ("incompatible", "needs plugin API 7 to 9, this core speaks 1", "pip install --upgrade zoo-core"),
    older: ("incompatible", "needs plugin API 0, this core speaks 1", "pip install --upgrade zoo-acme"),
    newer_layout: ("incompatible", "layout is 2, this core speaks 1", "pip install --upgrade zoo-core"),
    lies_by_distribution: (
        "namespace-conflict",
        "the namespace 'acme' belongs to the distribution zoo-acme",
        "pip uninstall evil-acme",
    ),
    lies_by_manifest: ("namespace-conflict", "its manifest says 'fine'", "pip uninstall zoo-acme"),
    needs_more: ("missing-deps", "it needs zoo_no_such_package.sub", "pip install zoo-acme"),
}


def found(site: Site) -> dict[str, PluginRecord]:
    return {record.distribution: record for record, _ in discover([str(site.folder), *sys.path]).plugins}


@pytest.mark.parametrize("spoil", QUARANTINED, ids=lambda spoil: spoil.__name__)
def test_a_broken_plugin_is_kept_with_state_reason_and_fix_and_harms_no_other(
    site: Site, spoil: Callable[[Site], None]
) -> None:
    state, reason, fix = QUARANTINED[spoil]
    spoil(site)
    site.plugin("fine")
    records = found(site)
    acme = records["evil-acme" if spoil is lies_by_distribution else "zoo-acme"]
    assert (acme.namespace, acme.version, acme.state, acme.fix) == ("acme", "1.0", state, fix)
    assert reason in acme.reason
    assert acme.location == str(site.folder / f"{acme.distribution.replace('-', '_')}-1.0.dist-info")
    assert records["zoo-fine"].state == records["zoo-core"].state == "ok"


def test_all_broken_plugins_together_leave_the_sound_one_and_are_imported_by_nobody(site: Site) -> None:
    shout = {"__init__.py": "raise SystemExit('imported')", "tiny.py": "raise SystemExit('imported')"}
    site.plugin("raises", files=shout)
    site.plugin("broken", "{", files=shout)
    site.plugin("missing", ..., files=shout)
    site.plugin("newer", api=[7, 9], files=shout)
    site.plugin("liar", distribution="zoo-else", files=shout)
    site.plugin("needy", requires=["zoo_no_such_package"], files=shout)
    site.plugin("fine")
    site.install("zoo-odd", b"\xff\xfe[x]\n\x00 = \x00\n[zoo.plugins]\n=\n\xe9 = x:y\n\x1b[2J = a:b\nodd = odd:odd")
    script = (
        "import json; from zoo.plugin.discovery import discover\n"
        "print(json.dumps({r.namespace: r.state for r, _ in discover().plugins}))"
    )
    environment = {"PYTHONPATH": str(site.folder), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    states = json.loads(done.stdout)
    assert states.pop("raises") == states.pop("fine") == states.pop("core") == "ok"
    assert states.pop("missing") == "manifest-missing"
    assert states.pop("broken") == "invalid-manifest"
    assert states.pop("newer") == "incompatible"
    assert states.pop("liar") == "namespace-conflict"
    assert states.pop("needy") == "missing-deps"
    assert {states.pop(name) for name in ("", "\ufffd", "\x1b[2J")} == {"namespace-conflict"}
    assert states.pop("odd") == "manifest-missing"


def test_a_sound_plugin_comes_with_what_it_declares(site: Site) -> None:
    site.plugin("a_b", summary="two words")
    [(record, spec)] = discover([str(site.folder)]).plugins
    manifest = str(site.folder / "zoo_a_b" / "zoo.json")
    assert record == PluginRecord("a_b", "zoo-a-b", "1.0", "ok", "", "", manifest, record.location)
    assert spec is not None
    assert (spec.summary, spec.models[0].name) == ("two words", "tiny")


def test_an_author_is_told_to_compile_and_not_to_reinstall(site: Site, new_site: Callable[[str], Site]) -> None:
    source = new_site("checkout/src")
    source.write({"zoo_acme/__init__.py": "", "zoo_acme/zoo.json": "{"})
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:zoo.json")
    paths = [str(site.folder), str(source.folder)]
    [(record, _)] = discover(paths).plugins
    assert (record.state, record.fix) == ("invalid-manifest", "zoo plugin compile zoo_acme.catalog")
    (source.folder / "zoo_acme" / "zoo.json").unlink()
    [(record, _)] = discover(paths).plugins
    assert (record.state, record.fix) == ("manifest-missing", "zoo plugin compile zoo_acme.catalog")


def test_a_namespace_named_twice_by_its_own_distribution_counts_once(site: Site) -> None:
    site.plugin("acme")
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:zoo.json\nacme = zoo_acme:other.json")
    states = [record.state for record, _ in discover([str(site.folder)]).plugins]
    assert states == ["ok", "namespace-conflict"]


def test_nobody_but_the_core_may_be_the_core(site: Site) -> None:
    site.plugin("core", distribution="zoo-core-plus")
    records = found(site)
    assert records["zoo-core-plus"].state == "namespace-conflict"
    assert records["zoo-core"].state == "ok"


@pytest.mark.parametrize("value", ["1", "true", "yes", "anything"])
def test_the_kill_switch_leaves_only_the_core(site: Site, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    site.plugin("fine")
    site.plugin("core", distribution="zoo-core-plus")
    monkeypatch.setenv("ZOO_NO_PLUGINS", value)
    records = found(site)
    assert records.pop("zoo-core").state == "ok"
    assert {(r.state, r.fix) for r in records.values()} == {("disabled", "unset ZOO_NO_PLUGINS")}


@pytest.mark.parametrize("value", ["", "0", "false", "No", " "])
def test_a_kill_switch_that_is_off_is_off(site: Site, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    site.plugin("fine")
    monkeypatch.setenv("ZOO_NO_PLUGINS", value)
    assert found(site)["zoo-fine"].state == "ok"


def test_the_allow_list_lets_in_only_what_it_names_and_the_core(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for namespace in ("fine", "good", "bad"):
        site.plugin(namespace)
    monkeypatch.setenv("ZOO_PLUGINS", " fine, good,")
    records = found(site)
    assert records["zoo-fine"].state == records["zoo-good"].state == records["zoo-core"].state == "ok"
    assert (records["zoo-bad"].state, records["zoo-bad"].fix) == ("disabled", "export ZOO_PLUGINS=fine,good,bad")
    monkeypatch.setenv("ZOO_PLUGINS", "")
    assert found(site)["zoo-bad"].state == "ok"


def test_a_switched_off_plugins_manifest_is_not_opened(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin("acme", "{")
    monkeypatch.setenv("ZOO_PLUGINS", "other")
    assert found(site)["zoo-acme"].state == "disabled"


def test_a_dependency_is_looked_for_and_not_imported(site: Site) -> None:
    site.plugin("acme", requires=["needed_package.sub"])
    assert found(site)["zoo-acme"].state == "missing-deps"
    site.write({"needed_package/__init__.py": "raise SystemExit('imported')"})
    assert found(site)["zoo-acme"].state == "ok"
    assert "needed_package" not in sys.modules


def test_an_import_hook_that_raises_harms_only_who_depends_on_it(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.startswith("needed_package"):
                raise RuntimeError("a broken hook")

    installed.plugin("acme", requires=["needed_package"])
    installed.plugin("fine", requires=["json"])
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    states = {record.namespace: record.state for record, _ in discover().plugins}
    assert (states["acme"], states["fine"]) == ("missing-deps", "ok")


def test_any_exception_about_one_plugin_is_its_own(site: Site) -> None:
    site.plugin("acme")
    site.plugin("fine")

    def read(path: str) -> object:
        if "zoo_acme" in path:
            raise KeyError("something nobody thought of")
        from zoo.plugin import manifest

        return manifest.read(path)

    states = {r.namespace: (r.state, r.reason) for r, _ in discover([str(site.folder)], read).plugins}
    assert states["acme"] == ("invalid-manifest", "KeyError: 'something nobody thought of'")
    assert states["fine"][0] == "ok"


@pytest.mark.parametrize("change", ["edit", "removal", "appearance"])
def test_a_manifest_that_changes_is_noticed(site: Site, change: str) -> None:
    site.plugin("acme", ... if change == "appearance" else None)
    site.age()
    fingerprint = discover([str(site.folder)]).fingerprint
    assert unchanged(fingerprint)
    path = site.folder / "zoo_acme" / "zoo.json"
    if change == "removal":
        path.unlink()
    else:
        path.write_text(json.dumps(manifest_of("acme")))
    assert not unchanged(fingerprint)


def test_every_state_but_ok_makes_an_error_that_says_what_to_type() -> None:
    record = PluginRecord("acme", "zoo-acme", "1.0", location="/site/zoo_acme-1.0.dist-info")
    for state in STATES[1:]:
        error = as_error(record.quarantined(state, "because", "do this"))
        assert isinstance(error, PluginError)
        assert (error.namespace, error.state, error.fix) == ("acme", state, "do this")
        assert str(Path("/site/zoo_acme-1.0.dist-info")) in str(error)
        assert {"zoo-acme", "1.0", "because"} <= set(error.message.replace(":", "").split())
