"""`zoo list`: columns that hold what is in them, and where else to look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthetic_plugins import Site, manifest_of
from zoo_command import zoo

TASKS = ("detection", "instance_segmentation", "keypoints")


@pytest.fixture
def finders(tmp_path: Path) -> Path:
    """A site folder with a plugin that has a model for each way to find objects; the one with masks is small."""
    manifest = manifest_of("acme")
    row = manifest["models"][0]
    sizes = zip(TASKS, (2000, 10, 3000), strict=True)
    manifest["models"] = [row | {"name": task, "task": task, "params": size, "aliases": []} for task, size in sizes]
    site = Site(tmp_path / "site")
    site.plugin("acme", manifest)
    return site.folder


def test_the_columns_are_wide_enough_for_every_task(finders: Path) -> None:
    heading, *rows = zoo("list", "acme/*", site=finders).out.splitlines()
    assert len(rows) == 3
    for row in rows:
        assert row.index("installed") == heading.index("STATUS")
        assert row[heading.index("TASK") :].split()[0] in TASKS


def test_who_lists_detectors_is_told_of_those_that_do_more(finders: Path) -> None:
    outcome = zoo("list", "acme/*", "--task", "detection", site=finders)
    assert [line.split()[1] for line in outcome.out.splitlines()[1:]] == ["detection"]
    assert outcome.err == (
        "note: --task instance_segmentation and --task keypoints: models that do detection and more\n"
    )
    few = zoo("list", "acme/*", "--task", "detection", "--max-params", "20", site=finders)
    assert few.code == 1
    assert few.err.endswith("note: --task instance_segmentation: models that do detection and more\n")


@pytest.mark.parametrize("words", [["--task", "keypoints"], ["--task", "detection", "--json"], []], ids=" ".join)
def test_nobody_else_is(finders: Path, words: list[str]) -> None:
    outcome = zoo("list", "acme/*", *words, site=finders)
    assert (outcome.code, outcome.err) == (0, "")
    if "--json" in words:
        assert [row["task"] for row in json.loads(outcome.out)] == ["detection"]
