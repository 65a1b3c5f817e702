"""Plugins that are broken in every way we could think of, installed: everything else works, and they are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zoo as zoo_library
from synthetic_plugins import Site, manifest_of
from zoo_command import Outcome, zoo


class Broken(NamedTuple):
    """How a plugin is written, and what is to be said about it.

    state: what the doctor finds. seen: whether its listing shows that already. said: words of the reason or the fix.
    """

    state: str
    said: str
    seen: bool = True
    manifest: Any = None
    files: Mapping[str, str] = {}
    distribution: str = ""
    fields: Mapping[str, Any] = {}


DEEP = '{"a":' * 5000 + "1" + "}" * 5000
HUGE = '{"schema": 1, "namespace": "bad", "summary": "' + "x" * 70_000_000 + '"}'

BROKEN = {
    "raises": Broken(
        "import-failed", "out of order", seen=False, files={"tiny.py": "raise RuntimeError('out of order')"}
    ),
    "exits": Broken("import-failed", "end the process", seen=False, files={"tiny.py": "import sys; sys.exit(0)"}),
    "kills": Broken("import-failed", "status 7", seen=False, files={"tiny.py": "import os; os._exit(7)"}),
    "syntax": Broken("import-failed", "SyntaxError", seen=False, files={"tiny.py": "class ("}),
    "no class": Broken("contract-failed", "tiny:Tiny", seen=False, files={"tiny.py": ""}),
    "no model": Broken("contract-failed", "not a zoo.Model", seen=False, files={"tiny.py": "Tiny = int"}),
    "needs": Broken("missing-deps", "no_such_package", seen=False, files={"tiny.py": "import no_such_package"}),
    "declares": Broken("missing-deps", "no_such_package", fields={"requires": ["no_such_package"]}),
    "other api": Broken("incompatible", "API", fields={"api": [99, 99]}),
    "no manifest": Broken("manifest-missing", "zoo.json", manifest=...),
    "no json": Broken("invalid-manifest", "try:", manifest="{not json"),
    "no text": Broken("invalid-manifest", "try:", manifest=b"\xff\xfe\x00"),
    "empty": Broken("invalid-manifest", "try:", manifest=""),
    "a list": Broken("invalid-manifest", "try:", manifest="[]"),
    "deep": Broken("invalid-manifest", "try:", manifest=DEEP),
    "huge": Broken("invalid-manifest", "try:", manifest=HUGE),
    "not a number": Broken("invalid-manifest", "try:", manifest='{"schema": NaN}'),
    "bad row": Broken("invalid-manifest", "nosuchfield", manifest={**manifest_of("bad"), "nosuchfield": 1}),
    "lies": Broken("namespace-conflict", "cnn", manifest=manifest_of("cnn")),
    "contradicts itself": Broken("invalid-manifest", "zoo-cnn", manifest=manifest_of("cnn", distribution="zoo-bad")),
    "steals": Broken("namespace-conflict", "stranger", distribution="stranger"),
}


def install(site: Site, broken: Broken) -> None:
    site.plugin("bad", broken.manifest, distribution=broken.distribution, files=broken.files, **broken.fields)


@pytest.mark.parametrize("kind", BROKEN)
def test_everything_else_works_and_the_broken_one_is_named_with_its_fix(kind: str, tmp_path: Path) -> None:
    broken = BROKEN[kind]
    site = Site(tmp_path / "site")
    site.plugin("good")
    install(site, broken)

    def run(*words: str) -> Outcome:
        return zoo(*words, site=site.folder)

    listed = run("list", "--json")
    assert (listed.code, listed.err) == (0, "")
    installed = {row["ref"] for row in json.loads(listed.out) if row["status"] == "installed"}
    assert {"resnet50", "good/tiny"} <= installed
    assert ("bad/tiny" in installed) == (not broken.seen)
    assert run("info", "resnet50").code == 0

    about = {record["namespace"]: record for record in json.loads(run("plugins", "--json").out)}
    assert about["good"]["state"] == about["cnn"]["state"] == "ok"
    assert about["bad"]["state"] == (broken.state if broken.seen else "ok")

    doctor = run("doctor", "bad")
    assert doctor.code == 1
    assert f"bad: {broken.state}" in doctor.out
    assert broken.said in doctor.out
    assert "try: " in doctor.out
    assert "Traceback" not in doctor.out + doctor.err

    if broken.seen:
        miss = run("predict", "bad/tiny", "photo.jpg")
        assert (miss.code, miss.out) == (1, "")
        assert (broken.distribution or "zoo-bad") in miss.err
        assert "try:" in miss.err


LOOPS = Broken("import-failed", "did not finish", seen=False, files={"tiny.py": "while True: pass"})


@pytest.mark.long
def test_a_plugin_that_never_comes_back_is_found_by_the_doctor(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    install(site, LOOPS)
    outcome = zoo("doctor", "bad", site=site.folder)
    assert outcome.code == 1
    assert "did not finish" in outcome.out


def test_whoever_builds_a_model_of_a_plugin_that_fails_to_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site.folder))
    for kind in ("raises", "exits", "syntax", "no class", "no model", "needs"):
        namespace = kind.replace(" ", "")
        site.plugin(namespace, files=BROKEN[kind].files)
        with pytest.raises(zoo_library.PluginError, match=f"zoo-{namespace}") as caught:
            zoo_library.create(f"{namespace}/tiny")
        assert (caught.value.namespace, caught.value.state) == (namespace, BROKEN[kind].state)
        assert caught.value.fix
    assert isinstance(zoo_library.create("resnet18"), zoo_library.Classifier)


def test_all_of_them_at_once_change_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.plugin("good")
    for number, broken in enumerate(b for b in BROKEN.values() if not b.distribution):
        site.plugin(f"bad{number}", broken.manifest, files=broken.files, **broken.fields)
    outcome = zoo("list", "--installed", "--json", site=site.folder)
    assert {"resnet50", "good/tiny"} <= {row["ref"] for row in json.loads(outcome.out)}
    assert zoo("--no-plugins", "list", "--installed", site=site.folder).code == 0
