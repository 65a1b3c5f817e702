"""`zoo registry` as it is typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torch import nn

import zoo as library
from loopback_hub import TOKEN, running_hub
from zoo_command import zoo


class CatConfig(library.ModelConfig):
    num_classes: int = 2


class Cat(library.Classifier):
    """Looking at what is registered never imports it, so that a class in a test will do."""

    Config = CatConfig

    def __init__(self, config: CatConfig) -> None:
        super().__init__(config)
        self.fc = nn.Linear(3, config.num_classes)


@pytest.fixture(autouse=True)
def registered() -> library.ModelRegistry:
    """Two versions of one model, and one of another."""
    registry = library.ModelRegistry()
    for version, classes, top1 in (("1.0.0", 2, 0.5), ("1.1.0", 3, 0.75)):
        config = {"num_classes": classes}
        given = {"name": "cats", "version": version, "model": Cat, "config": config}
        registry.register(metrics={"top1": top1}, tags=["small"], **given)
    registry.register(name="dogs", version="1.0.0", model=Cat, data="our own dogs")
    registry.promote("cats", "1.0.0", "production")
    return registry


def test_the_whole_story_on_the_command_line(registered: library.ModelRegistry) -> None:
    listed = zoo("registry", "ls")
    assert listed.code == 0, listed.err
    rows = [line.split() for line in listed.out.splitlines()]
    assert rows[0] == ["NAME", "VERSION", "ALIASES", "TAGS", "METRICS", "REGISTERED"]
    assert [row[:2] for row in rows[1:]] == [["cats", "1.1.0"], ["cats", "1.0.0"], ["dogs", "1.0.0"]]
    assert rows[2][2:6] == ["production", "small", "top1", "0.5"]
    promoted = zoo("registry", "promote", "cats@^1.1", "production")
    assert (promoted.code, promoted.out) == (0, "cats@production means 1.1.0\n")
    back = json.loads(zoo("registry", "rollback", "cats", "production", "--json").out)
    assert (back["name"], back["alias"], back["version"], back["action"]) == ("cats", "production", "1.0.0", "rollback")
    shown = zoo("registry", "show", "cats@production").out
    assert shown.startswith("local/cats@1.0.0\n")
    for said in ("top1 0.5", registered.show("cats", "1.0.0").sha256, "test_cli_registry:Cat", "rollback"):
        assert said in shown
    assert len(registered.history("cats", "production")) == 3


def test_machines_get_json(registered: library.ModelRegistry) -> None:
    listed = json.loads(zoo("registry", "ls", "c*", "--tag", "small", "--json").out)
    assert [record["ref"] for record in listed] == ["local/cats@1.1.0", "local/cats@1.0.0"]
    shown = json.loads(zoo("registry", "show", "dogs", "--json").out)
    assert shown["data"] == "our own dogs"
    assert shown["sha256"] == registered.show("dogs").sha256
    assert [change["alias"] for change in json.loads(zoo("registry", "show", "cats", "--json").out)["history"]]
    found = json.loads(zoo("registry", "diff", "cats@production", "cats@latest", "--json").out)
    assert found["config"]["num_classes"] == [2, 3]
    assert found["metrics"] == {"top1": [0.5, 0.75]}
    assert found["same_weights"] is False


def test_a_difference_is_a_table_of_what_differs() -> None:
    told = zoo("registry", "diff", "cats@1.0.0", "cats@1.1.0")
    rows = [line.split("  ") for line in told.out.splitlines()]
    assert rows[0][-1].strip() == "local/cats@1.1.0"
    assert [row[0] for row in rows if row[0].startswith("config")] == ["config num_classes"]
    assert sum(row[0].startswith("tensor") for row in rows) == 2  # the head's weight and bias
    assert rows[-1] == ["the weights are different"]


def test_versions_go_to_another_machine(registered: library.ModelRegistry, tmp_path: Path) -> None:
    target, there = str(tmp_path / "cats.zip"), {"ZOO_HOME": str(tmp_path / "there")}
    written = zoo("registry", "export", "cats@production", "cats@latest", target)
    assert (written.code, written.err) == (0, "")
    assert written.out.splitlines()[0] == f"local/cats@1.0.0 written to {target}"
    came = zoo("registry", "import", target, env=there)
    assert came.code == 0, came.err
    assert "cats@production means 1.0.0 there; --aliases takes that over" in came.out
    assert "note: local/cats@1.0.0 and 1 more: needs test_cli_registry:Cat" in came.out
    again = zoo("registry", "import", target, "cats@production", "--aliases", env=there).out
    assert again.startswith("local/cats@1.0.0 is here already, the same\ncats@production means 1.0.0 now")
    shown = zoo("registry", "show", "cats@production", env=there).out
    assert f"from {target}" in shown
    told = json.loads(zoo("registry", "export", "--all", "*", str(tmp_path / "all"), "--json").out)
    assert told["added"] == ["local/cats@1.0.0", "local/cats@1.1.0", "local/dogs@1.0.0"]
    assert sorted(os.listdir(tmp_path / "all")) == ["cats", "dogs", "zoo-registry.json"]
    refused = zoo("registry", "export", "cats", target)
    assert (refused.code, refused.out) == (1, "")
    assert f"{target} is there already" in refused.err


def test_versions_go_to_a_repository_and_come_back(registered: library.ModelRegistry, tmp_path: Path) -> None:
    with running_hub() as hub:
        hub_settings = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        hub_settings["HF_HOME"] = str(tmp_path / "hf-home")
        pushed = zoo("registry", "push", "--all", "cats", "hf://lab/cats", "--private", env=hub_settings)
        assert (pushed.code, pushed.err) == (0, "")
        assert "local/cats@1.1.0 added to hf://lab/cats@" in pushed.out
        assert hub.repos["lab/cats"].private
        there = {**hub_settings, "ZOO_HOME": str(tmp_path / "there")}
        pulled = json.loads(zoo("registry", "pull", "hf://lab/cats", "cats@production", "--json", env=there).out)
        assert pulled["added"] == ["local/cats@1.0.0"]
        assert pulled["aliases"][0]["alias"] == "production"
        refused = zoo("registry", "push", "dogs", "hf://lab/cats", env={**hub_settings, "HF_TOKEN": "hf_wrong"})
        assert refused.code == 1
        assert "HF_TOKEN" in refused.err


def test_a_list_is_cut_and_a_difference_told_to_the_number(registered: library.ModelRegistry) -> None:
    assert len(zoo("registry", "ls", "--limit", "1").out.splitlines()) == 2
    registered.register(name="cats", version="1.0.1", model=Cat, config={"num_classes": 2})
    found = registered.diff("cats@1.0.0", "cats@1.0.1", weights=True).largest or {}
    assert set(found) == {"fc.weight", "fc.bias"}
    told = zoo("registry", "diff", "cats@1.0.0", "cats@1.0.1", "--weights").out
    assert told.splitlines()[-3].split("  ")[0] == "TENSOR"
    assert float(told.split()[-1]) == pytest.approx(found["fc.weight"], rel=1e-4)


def test_a_lineage_is_shown(registered: library.ModelRegistry) -> None:
    registered.register(name="cats", version="2.0.0", model=Cat, parent="cats@1.1.0")
    registered.register(name="cats", version="3.0.0", model=Cat, parent="cats@2.0.0")
    shown = [line.split()[:4] for line in zoo("registry", "show", "cats").out.splitlines() if "made from" in line]
    assert shown == [["made", "from", "cats", "2.0.0"], ["made", "from", "cats", "1.1.0"]]
    lineage = json.loads(zoo("registry", "show", "cats", "--json").out)["lineage"]
    assert [parent["version"] for parent in lineage] == ["2.0.0", "1.1.0"]


def test_what_is_typed_wrong_or_not_there() -> None:
    for words, code, said in (
        (("lst",), 2, "zoo registry ls [PATTERN]"),
        (("promot", "cats@1.0.0", "production"), 2, "no action 'promot'; did you mean 'promote'?"),
        (("qqq",), 2, "no action 'qqq': there are ls, show, promote, rollback, diff, export, import, push, pull"),
        (("show",), 2, "zoo registry show lacks its NAME[@VERSION]"),
        (("promote", "cats@1.0.0"), 2, "zoo registry promote lacks its ALIAS"),
        (("ls", "cats", "dogs"), 2, "zoo registry ls takes no 'dogs'"),
        (("show", "cats@v1.0.0"), 1, "did you mean '1.0.0'?"),
        (("show",), 2, "zoo registry show NAME"),
        (("show", "cats", "dogs"), 2, "zoo registry show NAME"),
        (("show", "cats", "--tag", "small"), 2, "zoo registry ls [PATTERN]"),
        (("export", "cats", "--aliases"), 2, "zoo registry export lacks its PATH"),
        (("export", "cats", "x", "--aliases"), 2, "import and push and pull have it"),
        (("import",), 2, "zoo registry import lacks its PATH"),
        (("import", "/nowhere/x.zip"), 1, "cannot be read"),
        (("push", "cats"), 2, "lacks its hf://ORG/REPO"),
        (("push", "cats", "lab/cats"), 1, "hf://org/repo"),
        (("ls", "--limit", "x"), 2, "whole number"),
        (("promote", "cats", "production"), 2, "cats@latest"),
        (("rollback", "cats@1.0.0", "production"), 2, "zoo registry rollback cats production"),
        (("show", "cats@9.0.0"), 1, "1.1.0, 1.0.0"),
        (("show", "Cats"), 1, "lower-case"),
    ):
        told = zoo("registry", *words)
        assert (told.code, told.out) == (code, ""), words
        assert said in told.err
    assert "nothing registered" in zoo("registry", "ls", "nothing*").out
