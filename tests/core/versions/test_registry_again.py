"""Nothing registered is overwritten; the same again is no error, and mends what was lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from registered_models import blobs, pebble, register, value_of

import zoo
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Store


def test_a_version_that_is_taken_stays_and_the_next_free_ones_are_named(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.2.0", "1.2.7", "1.5.0", "3.0.0")
    with pytest.raises(zoo.ZooError, match="overwritten") as caught:
        registry.register(name="m", version="1.2.0", model=pebble(9.0))
    for free in ("1.2.8", "1.6.0", "4.0.0"):
        assert f'"{free}"' in str(caught.value)
    assert value_of(registry.load("m", "1.2.0")) == 0.0
    with pytest.raises(zoo.ZooError, match="overwritten"):  # another build is the same version
        registry.register(name="m", version="1.2.0+again", model=pebble(9.0))
    assert len(blobs(Path(os.environ["ZOO_HOME"]))) == 4  # what is refused is not stored either


def test_the_same_content_again_is_the_first_record(registry: zoo.ModelRegistry) -> None:
    given = {"name": "m", "version": "1.0.0", "tags": ["b", "a"], "metrics": {"top1": 0.5}, "data": "note"}
    first = registry.register(model=pebble(1.0), **given)
    registry.promote("m", "1.0.0", "production")
    again = registry.register(model=pebble(1.0), **given)
    assert again.created == first.created
    assert again.aliases == ("production",)
    for change in ({"tags": ["a"]}, {"metrics": {"top1": 0.6}}, {"data": "other"}, {"model": pebble(2.0)}):
        with pytest.raises(zoo.ZooError, match="overwritten"):
            registry.register(**{"model": pebble(1.0), **given, **change})


def test_weights_that_were_lost_come_back_when_they_are_registered_again(registry: zoo.ModelRegistry) -> None:
    record = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    os.unlink(Store().blob_path(record.sha256))
    with pytest.raises(zoo.CheckpointError, match="not in the store"):
        registry.load("m")
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    assert value_of(registry.load("m")) == 1.0


def test_weights_that_were_lost_come_back_even_if_a_package_has_the_same(
    registry: zoo.ModelRegistry, tmp_path: Path
) -> None:
    record = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    shutil.move(blob := Store().blob_path(record.sha256), tmp_path / "site")
    Store().adopt(str(tmp_path / "site"), Wanted(record.sha256), "pkg://x/weights")
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    assert os.path.exists(blob)


def test_the_database_itself_refuses_to_change_what_is_registered(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    registry.promote("m", "1.0.0", "production")
    with sqlite3.connect(Path(registry.path, "registry.sqlite")) as connection:
        for statement in ("UPDATE versions SET version = '2'", "DELETE FROM versions", "DELETE FROM changes"):
            with pytest.raises(sqlite3.IntegrityError, match="nothing registered is ever changed"):
                connection.execute(statement)


def test_versions_with_equal_weights_share_a_blob_that_the_database_lists(registry: zoo.ModelRegistry) -> None:
    for version in ("1.0.0", "1.0.1"):
        registry.register(name="m", version=version, model=pebble(1.0), data=version)
    other = registry.register(name="other", version="1.0.0", model=pebble(2.0))
    with sqlite3.connect(Path(registry.path, "registry.sqlite")) as connection:
        listed = {row[0] for row in connection.execute("SELECT sha256 FROM blobs")}
    assert listed == {registry.show("m").sha256, other.sha256} == set(blobs(Path(os.environ["ZOO_HOME"])))


def test_damaged_weights_are_mended_when_they_are_registered_again(registry: zoo.ModelRegistry) -> None:
    record = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    path = Path(Store().blob_path(record.sha256))
    path.chmod(0o644)
    path.write_bytes(bytes(record.size))
    with pytest.raises(zoo.DigestError, match="damaged"):
        registry.load("m")
    assert registry.register(name="m", version="1.0.0", model=pebble(1.0)) == record
    assert value_of(registry.load("m")) == 1.0


def test_what_was_loaded_is_registered_under_its_own_version_again(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    model = registry.load("m")
    with torch.no_grad():
        model.fc.bias += 1
    for version in ("1.0.0", "1.1.0"):
        record = (
            registry.show("m", version)
            if version == "1.0.0"
            else registry.register(name="m", version=version, model=model)
        )
        assert registry.register(name="m", version=version, model=registry.load("m", version)) == record
    assert registry.show("m", "1.0.0").parent is None
    assert registry.show("m", "1.1.0").parent is not None


def test_what_differs_from_the_registered_version_is_named(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    for change, said in (
        ({"metrics": {"top1": 0.5}}, "with other metrics"),
        ({"tags": ["a"], "data": "b"}, "with other data, tags"),
        ({"model": pebble(3.0)}, "with other weights"),
        ({"model": pebble(0.0, num_classes=4)}, "with other config, weights"),
    ):
        with pytest.raises(zoo.ZooError, match=f"{said}\n") as caught:
            registry.register(**{"name": "m", "version": "1.0.0", "model": pebble(0.0), **change})  # type: ignore[arg-type]  # one of several
        assert "nothing registered is overwritten" in caught.value.message


@pytest.mark.parametrize(
    ("there", "wanted", "offered"),
    [
        (["2.0.0-rc.1"], "2.0.0-rc.1", ["2.0.0-rc.2", "2.0.0"]),
        (["2.0.0-rc.1", "2.0.0-rc.2", "2.0.0"], "2.0.0-rc.1", ["2.0.0-rc.3"]),
        (["2.0.0-rc"], "2.0.0-rc", ["2.0.0-rc.1", "2.0.0"]),
        (["2.0.0-rc9", "3.0.0"], "2.0.0-rc9", ["2.0.0-rc9.1", "2.0.0"]),
    ],
)
def test_after_a_pre_release_the_next_one_and_the_release_are_offered(
    registry: zoo.ModelRegistry, there: list[str], wanted: str, offered: list[str]
) -> None:
    register(registry, *there)
    with pytest.raises(zoo.ZooError) as caught:
        registry.register(name="m", version=wanted, model=pebble(9.0))
    assert caught.value.fix == " or ".join(f'version="{version}"' for version in offered)
