"""A newcomer's plugin, as the guide tells it, packed into a wheel and installed far from its source and from ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from doc_blocks import Workshop, blocks
from fresh import ROOT, Environment, build_wheel
from zoo_command import Outcome, zoo

GUIDE = blocks(ROOT / "docs" / "writing_a_plugin.md")
FILES = [block for block in GUIDE if block.path and block.language != "diff"]
ONE_MORE_ROW = [block for block in GUIDE if block.language == "diff"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with zoo-core, and what the plugin's author has beside it."""
    made = Environment(tmp_path_factory.mktemp("newcomer"))
    made.install(build_wheel(ROOT / "zoo_core", tmp_path_factory.mktemp("wheel")))
    made.borrow("pytest", "torch")
    return made


def digest(folder: Path) -> str:
    """Of every file that is not compiled by Python."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()


@pytest.mark.long
def test_a_family_is_its_file_its_rows_and_its_test_and_a_size_is_one_row(
    environment: Environment, tmp_path: Path
) -> None:
    def run(*words: str) -> Outcome:
        return zoo(*words, executable=environment.zoo, cwd=tmp_path)

    def install(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        environment.install(build_wheel(project, folder))

    workshop = Workshop(tmp_path, environment.python, {})
    for block in FILES:
        workshop.run(block)
    project, core = tmp_path / "zoo-acme", environment.packages / "zoo"
    untouched = digest(core)
    written = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert "src/zoo_acme/zoo.json" not in written

    assert run("plugin", "check", "zoo-acme").code == 1  # there is no manifest yet
    compiled = run("plugin", "compile", "zoo-acme")
    assert (compiled.code, compiled.err) == (0, "")
    assert run("plugin", "check", "zoo-acme") == Outcome(0, "ok  zoo-acme may be published\n", "")
    assert "unchanged" in run("plugin", "compile", "zoo-acme").out

    install("first")
    listed = json.loads(run("list", "--plugin", "acme", "--json").out)
    assert [(row["ref"], row["status"]) for row in listed] == [
        ("acme/pebble_s", "installed"),
        ("acme/pebble_m", "installed"),
    ]
    assert "zoo_acme.pebble:Pebble" in run("info", "acme/pebble_s").out
    assert run("doctor", "acme").out.startswith("acme: ok  (zoo-acme 0.1.0, 1 class built)")
    seven = "import zoo; print(zoo.create('acme/pebble_s', num_classes=7).num_classes)"
    assert environment.run("-c", seven, cwd=tmp_path) == "7\n"
    environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(project / "tests"), cwd=tmp_path)

    for block in ONE_MORE_ROW:
        workshop.run(block)
    drift = run("plugin", "check", "zoo-acme")
    assert drift.code == 1
    assert "try: zoo plugin compile zoo-acme" in drift.out
    assert run("plugin", "compile", "zoo-acme").code == 0
    install("second")
    assert "acme/pebble_l" in run("list", "--plugin", "acme").out
    assert environment.run("-c", "import zoo; zoo.create('acme/pebble_l'); print('made')", cwd=tmp_path) == "made\n"
    assert digest(core) == untouched
    workshop.close()
