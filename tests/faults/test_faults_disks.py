"""A full disk, a disk that cannot be written: an error that says so, nothing half there, and on it goes with space."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from killing import Answer, lived
from lives import Stage, within
from small_disks import enter_namespace, filled, set_read_only, small_disk, unmountable
from soundness import flaws, left_over

from zoo.errors import ZooError

mountable = pytest.mark.skipif(bool(unmountable()), reason=unmountable())

SIZE = 8 << 20
KEEPS = ("download", "download without a digest", "download from the Hub")
"""What leaves what has arrived, to go on from there."""

NEEDLESS = ("catalogue rebuild", "adoption and pin", "gc")
"""What works where nothing can be written: it only saves work, or space."""


def attempt(stage: Stage) -> tuple[str, list[Any]]:
    """The act in the stage's work folder: the error it met, if any, and what it said. Other errors are failures."""

    def act(answer: Answer) -> None:
        said: list[Any] = []
        try:
            stage.operation.act(said.append)
        except ZooError as error:
            answer((str(error), error.fix, said))
        else:
            answer(("", "", said))

    ((error, fix, said),) = lived(within(stage.work, act))
    assert fix or not error, f"an error that does not say what to do: {error}"
    return error, said


def on_a_disk(stage: Stage, act: Callable[[Path], object]) -> list[Any]:
    """`act(disk)` in a child, with the stage's work folder on a small disk of its own."""

    def mounted(answer: Answer) -> None:
        enter_namespace()
        with small_disk(stage.work.parent / "disk", SIZE) as disk:
            stage.work = disk / "work"
            answer(act(disk))

    return lived(mounted)


def fill(stage: Stage, free: Sequence[int]) -> list[str]:
    """The errors on a disk with so many bytes free; everything about them is checked."""

    def act(disk: Path) -> list[str]:
        errors = []
        for number in free:
            stage.set_up()
            before = left_over(stage.work)
            with filled(disk, number):
                error, said = attempt(stage)
                found = flaws(stage.work)
                assert not found, "\n".join(found)
                lost = [path for path in left_over(stage.work) if path not in before]
                assert not error or not lost or stage.operation.name in KEEPS, (error, lost)
            stage.check(said)
            errors.append(error)
        return errors

    (errors,) = on_a_disk(stage, act)
    return errors


@mountable
def test_a_full_disk_is_named_and_nothing_is_half_there(stage: Stage) -> None:
    errors = fill(stage, [0])
    assert errors[0] or stage.operation.name in NEEDLESS
    for error in filter(None, errors):
        assert re.search(r"[Nn]o space|disk is full|some space", error), error


@mountable
@pytest.mark.long
def test_a_disk_that_fills_up_at_any_byte(stage: Stage) -> None:
    errors = fill(stage, [pages * 4096 for pages in (1, 2, 4, 8, 16, 32, 64, 160)])
    assert not errors[-1]  # with enough of it, it works


@mountable
def test_what_cannot_be_written_can_be_read(stage: Stage) -> None:
    def act(disk: Path) -> tuple[str, list[Any]]:
        stage.set_up()
        before = sorted(disk.rglob("*"))
        set_read_only(disk)
        error, said = attempt(stage)
        assert sorted(disk.rglob("*")) == before
        if not stage.operation.check_writes:
            lived(within(stage.work, lambda answer: stage.operation.check(said)))
        return error, said

    ((error, _),) = on_a_disk(stage, act)
    assert error or stage.operation.name in NEEDLESS
    if error:
        assert re.search("[Rr]ead-only|readonly|unable to open", error), error


@mountable
def test_a_small_disk_is_as_small_as_it_says(tmp_path: Path) -> None:
    def act(answer: Answer) -> None:
        enter_namespace()
        with small_disk(tmp_path / "disk", 1 << 20) as disk, filled(disk, 8192):
            (disk / "fits").write_bytes(bytes(8000))
            with pytest.raises(OSError, match="No space"):
                (disk / "does not").write_bytes(bytes(8000))
        answer("done")

    assert lived(act) == ["done"]
    assert not list((tmp_path / "disk").iterdir())  # nobody else ever saw it
