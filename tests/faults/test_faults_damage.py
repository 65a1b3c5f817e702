"""Flipped bits, cut and overwritten files: what is read is right, or it is an error of ours; never anything else."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import arrival_operations
import pytest
import torch
from damage import Damage, damages, outcome
from file_operations import LOCKED, Catalogue
from killing import ChildFailed, lived
from lives import within
from registry_operations import registry_right, three_versions
from stones import Stone, stone, value_of
from training_operations import every_checkpoint_whole, two_epochs
from transfer_operations import BODIES, REFS, in_the_store

import zoo
from zoo.build.pretrained import load_pretrained, save_pretrained
from zoo.checkpoints import arrivals, bundles, lock
from zoo.checkpoints.conversion import convert
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store, digest_of
from zoo.checkpoints.training.loading import load_checkpoint


class Kind(NamedTuple):
    """Files of one kind, by pattern, and what reads them: it fails where what it reads is not right.

    checked: whether every bit of them stands under a digest. SQLite's files have none, nor has what others write too.
    """

    pattern: str
    read: Callable[[], object]
    checked: bool = True


def furnish() -> None:
    """A folder with every kind of file that the zoo writes."""
    three_versions()
    two_epochs()
    lock.write("zoo.lock", lock.Lock(LOCKED))
    save_pretrained(stone(3.0), "saved")
    save_pretrained(stone(3.0, width=400), "sharded", max_shard_size="4KB")
    torch.save({"weight": torch.arange(50.0)}, "published.pth")
    read_conversion()
    files = in_the_store()
    bundles.write_zip("bundle.zip", REFS, files, Store())
    bundles.write_folder("bundle", REFS, files, Store())
    zoo.ModelRegistry().export("m", "export.zip", every=True)
    zoo.ModelRegistry().export("m", "export", every=True)
    arrivals.SPAN = 1 << 16
    with suppress(ConnectionError), arriving() as arrival:
        for begin in range(0, 3 << 16, 1 << 16):
            arrival.add(arrival_operations.BODY[begin : begin + (1 << 16)])
        raise ConnectionError


def arriving() -> arrivals.Arrival:
    return arrivals.Arrival(Store(), Wanted(arrival_operations.DIGEST), "https://example.org/weights")


def read_registry() -> None:
    registry_right([])
    registry = zoo.ModelRegistry()
    assert [record.version for record in registry.list("m", tag="old")] == ["0.2.0", "0.1.0", "0.0.0"]
    registry.promote("m", "0.0.0", "production")
    assert registry.rollback("m", "production").version == "0.2.0"


def read_conversion() -> None:
    store = Store()
    blob = fetch(["file://published.pth"], store=store)
    converted = convert(blob.sha256, blob.path, store)
    if digest_of(converted.path) == converted.sha256:  # as whoever opens it asks
        assert torch.equal(read_tensors(converted.path).tensors["weight"], torch.arange(50.0))


def read_bundle(path: str) -> Callable[[], None]:
    def read() -> None:
        other = Store(os.path.abspath("other"))
        for file, body in zip(bundles.take(path, other), BODIES, strict=True):
            blob = other.find(file.sha256)
            assert blob is not None
            assert Path(blob.path).read_bytes() in BODIES, body

    return read


def read_export(path: str) -> Callable[[], None]:
    def read() -> None:
        other = zoo.ModelRegistry("other registry")
        other.import_from(path, aliases=True)
        for number in range(3):
            model, record = other.load("m", f"0.{number}.0", return_info=True)
            assert value_of(model) == number
            assert record.tags == ("old",)
        assert other.show("m", "production").version == "0.2.0"

    return read


def read_run() -> None:
    every_checkpoint_whole([])
    for epoch in (1, 2):  # a damaged one is not listed, and refused by name
        model = stone(0)
        load_checkpoint("run", model, which=f"epoch-{epoch:04d}")
        assert value_of(model) == epoch


def read_lock() -> None:
    assert lock.read("zoo.lock").models == LOCKED


def read_arrival() -> None:
    with arriving() as arrival:
        arrival.resume()
        arrival.add(arrival_operations.BODY[arrival.reached :])
        blob = arrival.finish()
    assert Path(blob.path).read_bytes() == arrival_operations.BODY


def read_catalogue() -> None:
    assert Catalogue().listing() == LISTED


LISTED: dict[str, int] = {}
"""What the catalogue says where nothing is damaged."""

KINDS = {
    "weights in the store": Kind("home/blobs/sha256/*/*", read_registry),
    "records": Kind("home/records/**/*.json", read_conversion),
    "the registry": Kind("home/registry/registry.sqlite", read_registry, checked=False),
    "the catalogue": Kind("home/catalog-*.sqlite", read_catalogue, checked=False),
    "a broken-off download": Kind("home/blobs/tmp/*", read_arrival),
    "the lock": Kind("zoo.lock", read_lock),
    "training checkpoints": Kind("run/*/*", read_run),
    "a saved model": Kind("saved/*", lambda: _is(load_pretrained(Stone, "saved")), checked=False),
    "a saved model in shards": Kind("sharded/*", lambda: _is(load_pretrained(Stone, "sharded")), checked=False),
    "a published file": Kind("published.pth", read_conversion, checked=False),
    "a bundle": Kind("bundle.zip", read_bundle("bundle.zip")),
    "a bundle's folder": Kind("bundle/**/*", read_bundle("bundle")),
    "an export": Kind("export.zip", read_export("export.zip")),
    "an export's folder": Kind("export/**/*", read_export("export")),
}


def _is(model: Stone) -> None:
    assert value_of(model) == 3.0


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, warm_home: Path) -> Path:
    """The folder; what is read in it is right."""
    folder = tmp_path_factory.mktemp("furnished") / "work"
    shutil.copytree(warm_home, folder / "home")
    lived(within(folder, lambda answer: furnish()))
    LISTED.update(*lived(within(folder, lambda answer: answer(Catalogue().listing()))))
    for kind in KINDS.values():
        assert list(folder.glob(kind.pattern)), kind.pattern
    return folder


def spoil(
    furnished: Path, work: Path, kind: Kind, count: int, dice: random.Random
) -> Iterator[tuple[Path, Damage, str]]:
    """(file, damage, outcome) of that many damages to files of one kind, each in a fresh copy."""
    files = sorted(path for path in furnished.glob(kind.pattern) if path.is_file())
    for number in range(count):
        path = files[number % len(files)] if count >= len(files) else dice.choice(files)
        for chosen in damages(path.stat().st_size, 1, dice):
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(furnished, work)
            chosen.do(work / path.relative_to(furnished))
            try:
                said = lived(within(work, lambda answer: outcome(kind.read, answer)))
            except ChildFailed as error:
                said = [str(error)]
            yield path.relative_to(furnished), chosen, said[0] if said else "the process died"


@pytest.mark.parametrize("count", [2, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", KINDS)
def test_damage_is_an_error_of_ours_or_none(furnished: Path, tmp_path: Path, name: str, count: int) -> None:
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    for path, damage, said in spoil(furnished, tmp_path / "work", KINDS[name], count, random.Random(f"{name} {count}")):
        unseen = not KINDS[name].checked and "AssertionError" in said
        if said == "right" or (said.endswith("Error") and "\n" not in said) or unseen:
            outcomes["unseen" if unseen else said] += 1
        else:
            wrong.append(f"{path}: {damage}: {said}")
    assert not wrong, "\n".join(wrong)
    assert outcomes
    print(f"{name}: {dict(outcomes)}")


def test_the_check_can_fail(furnished: Path, tmp_path: Path) -> None:
    """Reading without any check gives wrong values, dies or raises what is not ours."""

    def careless() -> None:
        assert Path("zoo.lock").read_bytes() == body

    body = (furnished / "zoo.lock").read_bytes()
    said = [said for *_, said in spoil(furnished, tmp_path / "work", Kind("zoo.lock", careless), 3, random.Random(0))]
    assert all("AssertionError" in text for text in said)
    assert set(_deaths(furnished, tmp_path)) == {"the process died"}


def _deaths(furnished: Path, tmp_path: Path) -> Sequence[str]:
    kind = Kind("zoo.lock", lambda: os.kill(os.getpid(), 9))
    return [said for *_, said in spoil(furnished, tmp_path / "work", kind, 1, random.Random(0))]
