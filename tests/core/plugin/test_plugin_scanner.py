"""The scanner says what importlib.metadata says, survives what that does not, and notices every change."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from synthetic_plugins import Site
from zoo.plugin.scanner import normalized, parse, scan
from zoo.plugin.stamps import RACY, stamp, unchanged

names = st.sampled_from(["zoo-acme", "zoo_acme", "Zoo.Acme", "zoo__acme", "zoo-b", "ZOO-B", "other", "zoo"])
groups = st.sampled_from(["zoo.plugins", "zoo.hooks", "console_scripts", "zoo.plugin", " zoo.plugins", "[zoo.plugins"])
blanks = st.sampled_from(["", " ", "\t", "  "])
words = st.sampled_from(["acme", "b", "a_b", "zoo_acme:zoo.json", "zoo_b.x:y.json [extra]", "#x", "é:z", "x=y", ""])
headings = st.builds("{0}[{1}]{0}".format, blanks, groups)
entries = st.builds("{0}{1}{2}={3}{4}".format, blanks, words, blanks, blanks, words)
comments = st.sampled_from(["# a comment = here", "", "   ", "\t# [zoo.plugins]", "; = x"])
breaks = st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
texts = st.lists(st.tuples(headings | entries | comments, breaks)).map(lambda parts: "".join(map("".join, parts)))
kinds = st.sampled_from(["dist-info", "dist-info", "egg-info", "egg-info file", "no entry points"])
distributions = st.tuples(names, st.sampled_from(["1.0", "2.0.dev1", "0"]), kinds, texts)


def write_distribution(folder: Path, name: str, version: str, kind: str, text: str) -> None:
    suffix = "egg-info" if kind.startswith("egg-info") else "dist-info"
    metadata = folder / f"{name.replace('-', '_')}-{version}.{suffix}"
    if metadata.exists():
        return
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"
    if kind == "egg-info file":
        metadata.write_text(head)
        return
    metadata.mkdir(parents=True)
    (metadata / ("PKG-INFO" if suffix == "egg-info" else "METADATA")).write_text(head)
    if kind != "no entry points":
        (metadata / "entry_points.txt").write_text(text, encoding="utf-8", newline="")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(distributions, max_size=5), min_size=1, max_size=3), st.booleans())
def test_the_scanner_says_what_importlib_metadata_says(sites: list[list[tuple[str, ...]]], twice: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        folders = []
        for number, installed in enumerate(sites):
            folder = Path(root, f"site{number}")
            folder.mkdir()
            for distribution in installed:
                write_distribution(folder, *distribution)
            folders.append(str(folder))
        folders += ["", str(Path(root, "missing")), *folders[: int(twice)]]
        here, path = os.getcwd(), sys.path[:]
        try:
            os.chdir(root)
            sys.path[:] = folders
            expected = [
                (e.group, e.name, e.value, normalized(e.dist.name), e.dist.version)
                for group in ("zoo.plugins", "zoo.hooks")
                for e in importlib.metadata.entry_points(group=group)
            ]
            found = scan()
        finally:
            os.chdir(here)
            sys.path[:] = path
        assert sorted(e[:5] for e in found.entries) == sorted(expected)


def test_the_first_folder_on_the_path_wins(site: Site, new_site: Callable[[str], Site]) -> None:
    site.install("zoo-acme", "[zoo.plugins]\nacme = new:zoo.json", version="2.0")
    later = new_site("later")
    later.install("Zoo_Acme", "[zoo.plugins]\nacme = old:zoo.json", version="1.0")
    later.install("zoo-other", "[zoo.plugins]\nother = zoo_other:zoo.json")
    found = scan([str(site.folder), str(later.folder)])
    assert [(e.distribution, e.version, e.value) for e in found.entries] == [
        ("zoo-acme", "2.0", "new:zoo.json"),
        ("zoo-other", "1.0", "zoo_other:zoo.json"),
    ]


def test_a_first_copy_without_entry_points_hides_a_second(site: Site, new_site: Callable[[str], Site]) -> None:
    site.install("zoo-acme", "")
    later = new_site("later")
    later.install("zoo-acme", "[zoo.plugins]\nacme = old:zoo.json")
    assert scan([str(site.folder), str(later.folder)]).entries == []


def test_a_byte_order_mark_and_bad_bytes_hide_no_other_entry(site: Site) -> None:
    text = b"\xef\xbb\xbf[zoo.plugins]\nacme = zoo_acme:zoo.json\n\xff\xfe = bad:zoo.json\n[zoo.hooks]\na = b"
    site.install("zoo-acme", text)
    found = [(e.group, e.name) for e in scan([str(site.folder)]).entries]
    assert found == [("zoo.plugins", "acme"), ("zoo.plugins", "\ufffd\ufffd"), ("zoo.hooks", "a")]


def test_lines_that_are_no_entries_are_passed_over() -> None:
    assert list(parse("stray = x:y\n[zoo.plugins]\njunk\n[\n]\na=b\n = \n[zoo.plugins\n")) == [
        ("zoo.plugins", "a", "b"),
        ("zoo.plugins", "", ""),
    ]


def test_an_egg_folder_is_seen_as_importlib_metadata_sees_it(tmp_path: Path) -> None:
    egg = tmp_path / "zoo_acme-1.0-py3.11.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: Zoo-Acme\nVersion: 1.5\n\nVersion: 9\n")
    (egg / "EGG-INFO" / "entry_points.txt").write_text("[zoo.plugins]\nacme = zoo_acme:zoo.json")
    [entry] = scan([str(egg)]).entries
    [theirs] = importlib.metadata.distributions(path=[str(egg)])
    assert (entry.distribution, entry.version) == ("zoo-acme", "1.5") == (normalized(theirs.name), theirs.version)


def test_a_description_is_not_taken_for_a_header(site: Site) -> None:
    site.write({"zoo_acme.egg-info/PKG-INFO": "Name: zoo-acme\n\nVersion: 9\n"})
    site.write({"zoo_acme.egg-info/entry_points.txt": "[zoo.plugins]\nacme = zoo_acme:zoo.json"})
    [entry] = scan([str(site.folder)]).entries
    assert (entry.distribution, entry.version) == ("zoo-acme", "")


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link", "loop", "zeros"])
def test_an_entry_points_file_that_is_no_file_is_no_trouble(site: Site, kind: str) -> None:
    site.install("zoo-fine", "[zoo.plugins]\nfine = zoo_fine:zoo.json")
    file = site.install("zoo-odd") / "entry_points.txt"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "zeros":
        file.symlink_to("/dev/zero")
    else:
        file.symlink_to(file if kind == "loop" else "nowhere")
    assert [e.name for e in scan([str(site.folder)]).entries] == ["fine"]


def test_junk_on_the_path_is_passed_over(site: Site) -> None:
    site.install("zoo-fine", "[zoo.plugins]\nfine = zoo_fine:zoo.json")
    junk = [None, 3, b"bytes", "nul\0byte", "/dev/null", "x" * 5000, str(site.folder)]
    assert [e.name for e in scan(junk).entries] == ["fine"]


def test_an_editable_install_is_found(site: Site, new_site: Callable[[str], Site]) -> None:
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:zoo.json")
    source = new_site("checkout/src")
    source.write({"zoo_acme/__init__.py": "raise SystemExit('imported')", "zoo_acme/zoo.json": "{}"})
    site.write({"_editable_impl_zoo_acme.pth": str(source.folder)})
    script = (
        f"import site; site.addsitedir({str(site.folder)!r})\n"
        "from zoo.plugin.discovery import discover\n"
        "print([r.manifest for r, _ in discover().plugins if r.namespace == 'acme'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([str(source.folder / "zoo_acme" / "zoo.json")])


def test_the_check_for_changes_imports_next_to_nothing() -> None:
    script = (
        "import sys, zoo; before = set(sys.modules)\n"
        "from zoo.plugin.stamps import unchanged; unchanged([('/', 0, 0)])\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["zoo.plugin", "zoo.plugin.stamps"]


CHANGES = {
    "install": lambda site: site.install("zoo-late", "[zoo.plugins]\nlate = zoo_late:zoo.json"),
    "install of something else": lambda site: site.install("numpy"),
    "uninstall": lambda site: shutil.rmtree(site.folder / "zoo_acme-1.0.dist-info"),
    "upgrade": lambda site: os.rename(site.folder / "zoo_acme-1.0.dist-info", site.folder / "zoo_acme-1.1.dist-info"),
    "edit": lambda site: site.write(
        {"zoo_acme-1.0.dist-info/entry_points.txt": "[zoo.plugins]\nacme = zoo_b:zoo.json"}
    ),
    "loss of the file": lambda site: (site.folder / "zoo_acme-1.0.dist-info" / "entry_points.txt").unlink(),
    "loss of the folder": lambda site: shutil.rmtree(site.folder),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(site: Site, change: str) -> None:
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:zoo.json")
    site.age()
    fingerprint = scan([str(site.folder)]).fingerprint
    assert unchanged(fingerprint)
    assert unchanged([list(row) for row in fingerprint])  # as it comes back from a cache
    CHANGES[change](site)
    assert not unchanged(fingerprint)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_another_thing_under_the_same_name_with_the_same_time_is_noticed(site: Site, kind: str) -> None:
    path = site.folder / "thing"
    path.mkdir() if kind == "folder" else path.write_text("one")
    site.age()
    stamps = [stamp(str(path), time.time_ns())]
    assert unchanged(stamps)
    then = path.stat().st_mtime_ns
    path.rename(path.with_name("aside"))
    path.mkdir() if kind == "folder" else path.write_text("other")
    os.utime(path, ns=(then, then))
    assert not unchanged(stamps)


def test_a_missing_folder_that_appears_is_noticed(site: Site) -> None:
    later = site.folder / "later"
    site.age()
    fingerprint = scan([str(later)]).fingerprint
    assert unchanged(fingerprint)
    later.mkdir()
    assert not unchanged(fingerprint)


def test_what_was_touched_just_now_is_not_trusted(site: Site) -> None:
    site.install("zoo-acme", "[zoo.plugins]\nacme = zoo_acme:zoo.json")
    site.age()
    file = site.folder / "zoo_acme-1.0.dist-info" / "entry_points.txt"
    os.utime(file)
    fingerprint = scan([str(site.folder)]).fingerprint
    # A same-sized edit within one tick of a coarse clock leaves no other trace.
    assert [row[1] == RACY for row in fingerprint] == [False, True]
    assert not unchanged(fingerprint)


def test_a_stamp_is_trusted_once_it_is_older_than_a_coarse_clock_ticks(site: Site) -> None:
    now = time.time_ns()
    for age, racy in ((0, True), (1_900_000_000, True), (2_100_000_000, False), (-(10**10), True)):
        os.utime(site.folder, ns=(now - age, now - age))
        assert (stamp(str(site.folder), now)[1] == RACY) is racy, age
