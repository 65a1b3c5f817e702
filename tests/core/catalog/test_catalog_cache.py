"""The cache is never wrong: missing, stale, damaged, unwritable or raced, the answer is what is installed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from synthetic_plugins import Site
from zoo.catalog import open_catalog
from zoo.catalog.cache import open_file
from zoo.catalog.listing import Wanted

SOURCE = str(Path(zoo.__file__).parent.parent)
Install = Callable[..., Path]


def listed() -> list[str]:
    return [row.ref for row in open_catalog().list_models(installed=True)]


def cache_files(home: Path) -> list[Path]:
    return sorted(home.glob("catalog-????????.sqlite*"))  # not the one that lies in every home here


def test_what_is_installed_is_listed(install: Install) -> None:
    install("acme", "tiny", "big")
    assert listed() == ["acme/tiny", "acme/big"]


def test_a_new_plugin_an_upgrade_and_an_uninstall_show_at_once(site: Site, install: Install) -> None:
    install("acme", "tiny")
    assert listed() == ["acme/tiny"]
    install("best", "small")
    assert listed() == ["acme/tiny", "best/small"]
    old = install("best", "small", "large")  # the same folder, another manifest
    assert listed() == ["acme/tiny", "best/small", "best/large"]
    shutil.rmtree(old)
    assert listed() == ["acme/tiny"]


def test_an_edit_of_the_same_size_in_the_same_instant_shows(site: Site) -> None:
    """Time stamps are too coarse to tell; what has just been written is not trusted."""
    for name in ("one", "two"):
        site.plugin("acme", models=[{"name": name, "factory": "zoo_acme.tiny:Tiny"}])
        then = time.time_ns()
        for path in (site.folder, *site.folder.rglob("*")):
            os.utime(path, ns=(then, then))
        assert listed() == [f"acme/{name}"]


def test_an_unchanged_catalogue_is_not_made_again(install: Install, zoo_home: Path) -> None:
    install("acme", "tiny")
    listed()
    (made,) = cache_files(zoo_home)
    before = made.stat()
    assert listed() == ["acme/tiny"]
    assert made.stat().st_ino == before.st_ino
    assert cache_files(zoo_home) == [made]


def test_an_unchanged_manifest_is_not_read_again(site: Site, install: Install) -> None:
    """Proven by spoiling it behind the catalogue's back, with its size and time stamp as they were."""
    install("acme", "tiny")
    listed()
    path = site.folder / "zoo_acme" / "zoo.json"
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    install_again = site.plugin("best", models=[{"name": "small", "factory": "zoo_best.tiny:Tiny"}])
    assert install_again.exists()
    assert listed() == ["acme/tiny", "best/small"]


def test_a_manifest_touched_but_not_changed_keeps_its_rows(site: Site, install: Install) -> None:
    install("acme", {"name": "tiny", "aliases": ["little"], "tags": ["t"], "params": 7})
    first = open_catalog().list_models(installed=True)
    os.utime(site.folder / "zoo_acme" / "zoo.json")
    catalog = open_catalog()
    assert catalog.list_models(installed=True, tag="t", max_params=7) == first
    assert catalog.resolve("acme/little").model.name == "tiny"


def test_rows_that_were_copied_are_the_rows_a_fresh_catalogue_has(install: Install, zoo_home: Path) -> None:
    models = [{"name": f"m{i}", "aliases": [f"a{i}"], "tags": [f"t{i % 3}"], "params": i} for i in range(20)]
    install("bees", *models)
    listed()
    install("acme", *models)  # sorts before: every number of the other's rows moves
    copied = open_catalog()
    everything = copied.list_models(), copied.listing(Wanted()), [copied.resolve(f"bees/a{i}") for i in range(20)]
    for file in cache_files(zoo_home):
        file.unlink()
    fresh = open_catalog()
    fresh_everything = fresh.list_models(), fresh.listing(Wanted()), [fresh.resolve(f"bees/a{i}") for i in range(20)]
    assert everything == fresh_everything


def test_a_plugin_whose_state_changes_changes_in_the_listing(site: Site, install: Install) -> None:
    install("acme", "tiny", requires=["needed_package"])
    (row,) = open_catalog().list_models("acme/*")
    assert row.status == "missing-deps"
    site.write({"needed_package/__init__.py": ""})
    (row,) = open_catalog().list_models("acme/*")
    assert row.status == "installed"
    (text,) = open_catalog().listing(Wanted(plugin="acme"))
    assert text.split()[-1] == "installed"


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def garbage(file: Path) -> None:
    file.write_bytes(random.Random(0).randbytes(5000))


def garbage_after_the_first_page(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:16384] + random.Random(0).randbytes(len(content) - 16384))


def zeros_after_the_first_page(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:16384] + bytes(len(content) - 16384))


def another_layout(file: Path) -> None:
    import sqlite3

    file.unlink()
    connection = sqlite3.connect(file)
    connection.executescript("CREATE TABLE meta (key, value, layout); CREATE TABLE models (id)")
    connection.commit()
    connection.close()


def another_key(file: Path) -> None:
    """As a process would whose folders happen to have the same checksum."""
    import sqlite3

    other = file.with_suffix(".other")
    shutil.copy(file, other)
    connection = sqlite3.connect(other)
    connection.executescript(
        "UPDATE meta SET value = 'for other folders' WHERE key = 'key';"
        "DELETE FROM models; DELETE FROM details; DELETE FROM plugins; DELETE FROM contents; DELETE FROM aliases;"
    )
    connection.commit()
    connection.close()
    other.replace(file)


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"SQLite format 3\0"),
        lambda file: (file.unlink(), file.mkdir()),
        truncate,
        garbage,
        garbage_after_the_first_page,
        zeros_after_the_first_page,
        another_layout,
        another_key,
    ],
)
@pytest.mark.parametrize("others_process", [False, True])
def test_a_damaged_cache_is_made_anew(
    install: Install, zoo_home: Path, damage: Callable[[Path], object], others_process: bool
) -> None:
    install("acme", *(f"model_{i}" for i in range(50)))
    expected = listed()
    assert len(expected) == 50
    (file,) = cache_files(zoo_home)
    damage(file)
    if others_process:
        sys.modules["zoo.catalog.cache"]._open.clear()  # as a process that has not opened it yet
    assert listed() == expected
    assert open_catalog().resolve("acme/model_7").model.name == "model_7"
    assert listed() == expected


def test_a_file_cut_short_by_one_byte_is_not_opened(install: Install, zoo_home: Path) -> None:
    install("acme", "tiny")
    listed()
    (file,) = cache_files(zoo_home)
    assert open_file(str(file)) is not None
    os.truncate(file, file.stat().st_size - 1)
    assert open_file(str(file)) is None


def test_a_catalogue_found_damaged_while_in_use_is_made_anew(install: Install, zoo_home: Path) -> None:
    install("acme", *(f"model_{i}" for i in range(2000)))
    open_catalog().plugins()
    (file,) = cache_files(zoo_home)
    catalog = open_catalog()
    zeros_after_the_first_page(file)
    assert catalog.resolve("acme/model_1999").model.name == "model_1999"
    assert len(catalog.list_models(installed=True)) == 2000


@pytest.mark.parametrize("home", ["/dev/null/zoo", "/proc/zoo"])
def test_where_nothing_can_be_written_the_answer_is_the_same(
    install: Install, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("ZOO_HOME", home)
    install("acme", "tiny")
    assert listed() == ["acme/tiny"]
    install("best", "small")
    assert listed() == ["acme/tiny", "best/small"]


def test_a_home_with_any_name_will_do(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "a home? 100%25 #1 ü"
    monkeypatch.setenv("ZOO_HOME", str(home))
    install("acme", "tiny")
    assert listed() == ["acme/tiny"]
    (file,) = cache_files(home)
    assert open_file(str(file)) is not None


def test_switches_have_catalogues_of_their_own(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme", "tiny")
    install("best", "small")
    assert listed() == ["acme/tiny", "best/small"]
    monkeypatch.setenv("ZOO_PLUGINS", "best")
    assert listed() == ["best/small"]
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    assert listed() == []
    assert {plugin.state for plugin in zoo.plugins()} == {"disabled"}
    monkeypatch.delenv("ZOO_NO_PLUGINS")
    monkeypatch.delenv("ZOO_PLUGINS")
    assert listed() == ["acme/tiny", "best/small"]


def test_what_another_catalogue_has_read_is_not_read_again(
    site: Site, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the catalogues of two environments, or with and without a switch. Proven by spoiling the manifest."""
    install("acme", "tiny")
    install("best", "small")
    listed()
    path = site.folder / "zoo_acme" / "zoo.json"
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    assert listed() == ["acme/tiny"]


def test_working_in_many_folders_makes_one_catalogue(
    install: Install, tmp_path: Path, zoo_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme", "tiny")
    for number in range(4):
        folder = tmp_path / f"work_{number}"
        folder.mkdir()
        (folder / "script.py").write_text("")
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        assert listed() == ["acme/tiny"]
    assert len(cache_files(zoo_home)) == 1


def test_a_plugin_in_the_working_folder_counts(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme", "tiny")
    assert listed() == ["acme/tiny"]
    here = Site(tmp_path / "here")
    here.plugin("mine")
    monkeypatch.setattr(sys, "path", [str(here.folder), *sys.path])
    assert listed() == ["acme/tiny", "mine/tiny"]


def in_a_process(site: Site, code: str) -> subprocess.Popen[str]:
    """A bare interpreter that sees core and the site folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), SOURCE])}
    return subprocess.Popen([sys.executable, "-S", "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


LOOK = """
import json, sys, time
from zoo.catalog import open_catalog
end = time.time() + {seconds}
seen = []
while time.time() < end:
    seen.append([row.ref for row in open_catalog().list_models("acme/*")])
print(json.dumps(seen))
"""


def test_processes_that_race_all_read_a_whole_and_true_catalogue(site: Site, install: Install, zoo_home: Path) -> None:
    """Six processes look, while the catalogue is deleted, cut short and made stale under them."""
    names = [f"model_{i}" for i in range(40)]
    expected = [f"acme/{name}" for name in names]
    install("acme", *names)
    processes = [in_a_process(site, LOOK.format(seconds=6)) for _ in range(6)]
    number = 0
    while any(process.poll() is None for process in processes):
        number += 1
        for file in cache_files(zoo_home):
            try:
                file.unlink() if number % 3 else os.truncate(file, 4096)
            except FileNotFoundError:
                continue
        (site.folder / f"unrelated_{number}").touch()  # the folder has changed: every catalogue is stale
        time.sleep(0.03)
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        looks = json.loads(out)
        assert looks
        assert all(look == expected for look in looks)
    assert not list(zoo_home.glob("*.tmp"))


def test_a_process_killed_while_it_writes_leaves_nothing_wrong(site: Site, install: Install, zoo_home: Path) -> None:
    names = [f"model_{i}" for i in range(300)]
    install("acme", *names)
    chance = random.Random(0)
    for _ in range(8):
        for file in cache_files(zoo_home):
            file.unlink()
        process = in_a_process(site, LOOK.format(seconds=5))
        time.sleep(chance.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert listed() == [f"acme/{name}" for name in names]


def test_what_killed_processes_left_is_cleared_away(install: Install, zoo_home: Path) -> None:
    left = zoo_home / "catalog-00000000.sqlite.0123.tmp"
    fresh = zoo_home / "catalog-00000000.sqlite.4567.tmp"
    foreign = zoo_home / "weights.tmp"
    for file in (left, fresh, foreign):
        file.write_bytes(b"half")
    for file in (left, foreign):
        os.utime(file, (1, 1))
    install("acme", "tiny")
    listed()
    assert not left.exists()
    assert fresh.exists()
    assert foreign.exists()


def test_a_warm_listing_imports_nothing_it_does_not_need(site: Site, install: Install) -> None:
    install("acme", "tiny")
    code = """
import sys
before = set(sys.modules)
from zoo.catalog.catalog import open_catalog
from zoo.catalog.listing import Wanted
assert any("acme/tiny" in piece for piece in open_catalog().listing(Wanted()))
assert any("acme/tiny" in piece for piece in open_catalog().listing(Wanted("*iny", license="permissive")))
print(*sorted(set(sys.modules) - before))
"""
    imported: set[str] = set()
    for _ in range(10):  # what was installed a moment ago is not trusted yet
        process = in_a_process(site, code)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        imported = set(out.split())
        if "zoo.catalog.rebuilding" not in imported:
            break
        time.sleep(0.5)
    heavy = {"torch", "numpy", "pydantic", "pluggy", "huggingface_hub", "dataclasses", "pathlib", "inspect", "typing"}
    assert not imported & {*heavy, "importlib.metadata", "zoo.catalog.rebuilding", "zoo.specs", "json", "re"}
