"""Where annotated photos go."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.cli.arguments import UsageError
from zoo.cli.inputs import Source
from zoo.cli.saving import Destination


def test_one_photo_goes_into_a_file_and_several_into_a_folder(tmp_path: Path) -> None:
    one, other = Source("a/cat.jpg"), Source("b/cat.jpg")
    assert Destination(str(tmp_path / "out.png"), [one]).of(one) == str(tmp_path / "out.png")
    folder = Destination(str(tmp_path / "new" / "out"), [one, other])
    assert folder.of(one) == str(tmp_path / "new/out/cat.png")
    assert folder.of(other) == str(tmp_path / "new/out/cat-2.png")
    assert (tmp_path / "new/out").is_dir()


def test_without_a_path_nothing_is_saved() -> None:
    source = Source("cat.jpg")
    assert Destination(None, [source]).of(source) is None


def test_several_photos_into_one_file_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one file, but there are 2 photos") as caught:
        Destination(str(tmp_path / "out.png"), [Source("a"), Source("b")])
    assert caught.value.fix == f"--save {tmp_path / 'out'}/"


def test_a_suffix_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not \.txt"):
        Destination(str(tmp_path / "out.txt"), [Source("a")])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        Destination(str(tmp_path / "no" / "out.png"), [Source("a")])


@pytest.mark.parametrize("save", ["cat.png", ".", "./"])
def test_a_photo_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_text("photo")
    with pytest.raises(UsageError, match="overwrite the photo"):
        Destination(save, [Source("cat.png", "cat.png")])
