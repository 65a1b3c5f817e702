"""The user's own names: kept for later processes, and never in the way of a first-party name."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_rows import checkpoint

from zoo.catalog import aliases, open_catalog
from zoo.errors import NotFoundError, RefError, ZooError

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def plugins(install: Install) -> None:
    install("acme", {"name": "tiny", "checkpoints": [checkpoint("a"), checkpoint("b")]}, "my_head")
    install("vit", {"name": "swin_b", "aliases": ["published_swin"]})


def resolve(text: str) -> str:
    return open_catalog().resolve(text).ref


def test_an_alias_means_what_it_was_set_to() -> None:
    aliases.set_alias("mine", "acme/tiny.b")
    assert resolve("mine") == "acme/tiny.b@1"
    assert open_catalog().resolve("mine").named_checkpoint
    assert aliases.user_aliases() == {"mine": "acme/tiny.b"}


def test_the_grammar_goes_on_behind_an_alias() -> None:
    aliases.set_alias("mine", "acme/tiny")
    assert resolve("mine") == "acme/tiny.a@1"
    assert resolve("mine.b@1") == "acme/tiny.b@1"
    with pytest.raises(NotFoundError, match="version 1 is installed"):
        resolve("mine@2")


def test_an_alias_can_be_changed_and_forgotten() -> None:
    aliases.set_alias("mine", "acme/tiny")
    aliases.set_alias("mine", "swin_b")
    assert resolve("mine") == "vit/swin_b@1"
    aliases.remove_alias("mine")
    assert aliases.user_aliases() == {}
    with pytest.raises(NotFoundError):
        resolve("mine")
    with pytest.raises(NotFoundError, match="no alias 'mine'"):
        aliases.remove_alias("mine")


@pytest.mark.parametrize("taken", ["swin_b", "published_swin", "resnet50"])
def test_a_first_party_name_cannot_be_taken_not_even_an_uninstalled_one(taken: str) -> None:
    with pytest.raises(ZooError, match="already means"):
        aliases.set_alias(taken, "acme/tiny")
    assert aliases.user_aliases() == {}


def test_an_alias_of_an_alias_is_kept_as_what_it_means() -> None:
    aliases.set_alias("mine", "acme/tiny.b")
    aliases.set_alias("yours", "mine")
    aliases.remove_alias("mine")
    assert resolve("yours") == "acme/tiny.b@1"
    with pytest.raises(NotFoundError):
        aliases.set_alias("loop", "loop")


@pytest.mark.parametrize("alias", ["", "A", "a/b", "a.b", "a@1", "a b", "hf://x"])
def test_an_alias_is_one_word(alias: str) -> None:
    with pytest.raises(RefError):
        aliases.set_alias(alias, "acme/tiny")


def test_an_alias_leads_somewhere() -> None:
    with pytest.raises(NotFoundError):
        aliases.set_alias("mine", "acme/tinny")
    assert aliases.user_aliases() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\0", "[" * 100_000])
def test_a_spoilt_file_stops_no_one_but_is_not_overwritten(zoo_home: Path, content: str) -> None:
    file = zoo_home / "aliases.json"
    file.write_text(content)
    assert resolve("swin_b") == "vit/swin_b@1"
    assert aliases.user_aliases() == {}
    with pytest.raises(ZooError, match="cannot be read"):
        aliases.set_alias("mine", "acme/tiny")
    assert file.read_text() == content


def test_what_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", "/dev/null/zoo")
    with pytest.raises(ZooError, match="cannot be kept") as raised:
        aliases.set_alias("mine", "acme/tiny")
    assert "ZOO_HOME" in str(raised.value.fix)


def _set_many(worker: int) -> None:
    for number in range(20):
        aliases.set_alias(f"mine_{worker}_{number}", "acme/tiny")


def test_processes_that_write_at_once_leave_a_whole_file(zoo_home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_set_many, range(4))
    kept = json.loads((zoo_home / "aliases.json").read_text())
    assert set(kept.values()) == {"acme/tiny"}
    assert len(kept) >= 20  # who wrote last wins; nobody reads half of anything
    assert [path.name for path in zoo_home.iterdir() if path.suffix == ".tmp"] == []
