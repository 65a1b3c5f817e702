"""`zoo registry` as it is typed."""

from __future__ import annotations

import json

import pytest
from torch import nn

import zoo as library
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


def test_what_is_typed_wrong_or_not_there() -> None:
    for words, code, said in (
        (("lst",), 2, "zoo registry ls [PATTERN]"),
        (("promot", "cats@1.0.0", "production"), 2, "no action 'promot'; did you mean 'promote'?"),
        (("qqq",), 2, "no action 'qqq': there are ls, show, promote, rollback, diff"),
        (("show",), 2, "zoo registry show lacks its NAME[@VERSION]"),
        (("promote", "cats@1.0.0"), 2, "zoo registry promote lacks its ALIAS"),
        (("ls", "cats", "dogs"), 2, "zoo registry ls takes no 'dogs'"),
        (("show", "cats@v1.0.0"), 1, "did you mean '1.0.0'?"),
        (("show",), 2, "zoo registry show NAME"),
        (("show", "cats", "dogs"), 2, "zoo registry show NAME"),
        (("show", "cats", "--tag", "small"), 2, "zoo registry ls [PATTERN]"),
        (("promote", "cats", "production"), 2, "cats@latest"),
        (("rollback", "cats@1.0.0", "production"), 2, "zoo registry rollback cats production"),
        (("show", "cats@9.0.0"), 1, "1.1.0, 1.0.0"),
        (("show", "Cats"), 1, "lower-case"),
    ):
        told = zoo("registry", *words)
        assert (told.code, told.out) == (code, ""), words
        assert said in told.err
    assert "nothing registered" in zoo("registry", "ls", "nothing*").out
