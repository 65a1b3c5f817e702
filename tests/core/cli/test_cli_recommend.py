"""`zoo recommend` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthetic_plugins import Site, manifest_of
from zoo_command import zoo

METRIC = {"name": "top1", "value": 90.5, "dataset": "imagenet-1k/val"}
WEIGHTS = {"name": "a", "sources": ["hf://org/a/f"], "license": "MIT", "labels": "imagenet_1k", "metrics": [METRIC]}


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A site folder with a plugin that has one model with weights."""
    manifest = manifest_of("acme")
    manifest["models"][0] |= {"macs": 1000, "checkpoints": [WEIGHTS]}
    site = Site(tmp_path / "site")
    site.plugin("acme", manifest)
    site.age()
    return site.folder


def test_the_answer_comes_with_its_reason(acme: Path) -> None:
    told = zoo("recommend", "--constraint", "accuracy", "--max-params", "1k", site=acme)
    assert told.code == 0
    name, reason = told.out.splitlines()[:2]
    assert name == "acme/tiny"
    assert reason == "  90.5 % top-1 on ImageNet-1k, 211 parameters, 1000 MACs, MIT"


def test_machines_get_json(acme: Path) -> None:
    told = json.loads(zoo("recommend", "--max-params", "1k", "--limit", "1", "--data", "300", "--json", site=acme).out)
    assert [answer["ref"] for answer in told["answers"]] == ["acme/tiny"]
    assert (told["asked"]["data"], told["asked"]["max_params"]) == ("300", 1000)


def test_nothing_that_fits_is_exit_code_one_and_said_on_stderr(acme: Path) -> None:
    told = zoo("recommend", "--max-params", "200", site=acme)
    assert (told.code, told.out) == (1, "")
    assert "acme/tiny, shut out by max_params 200: it has 211" in told.err


def test_a_misspelt_word_is_a_wrong_question_with_a_suggestion(acme: Path) -> None:
    told = zoo("recommend", "--constraint", "sped", site=acme)
    assert told.code == 2
    assert "did you mean 'speed'" in told.err
