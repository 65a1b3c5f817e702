"""What `zoo predict` takes for an image."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from zoo.cli.inputs import Source, expand


def shown(*operands: str, stdin: bytes = b"") -> list[str]:
    return [source.shown for source in expand(operands, io.BytesIO(stdin))[0]]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "deep/c.webp", "deep/deeper/d.tif"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_a_folder_gives_its_images_in_order_one_level_deep_and_says_so(photos: Path) -> None:
    sources, notes = expand(["photos"])
    assert [source.shown for source in sources] == ["photos/a.png", "photos/b.JPG"]
    assert "1 folder inside" in notes[0]
    assert "photos/**" in notes[0]


def test_a_quoted_pattern_is_expanded_into_the_images_it_matches(photos: Path) -> None:
    assert shown("photos/*") == ["photos/a.png", "photos/b.JPG"]
    assert shown("photos/**") == ["photos/a.png", "photos/b.JPG", "photos/deep/c.webp", "photos/deep/deeper/d.tif"]


def test_a_named_file_is_taken_whatever_it_is_called(photos: Path) -> None:
    (photos / "odd[1].dat").touch()
    sources, _ = expand(["photos/notes.txt", "photos/odd[1].dat"])
    assert [source.error for source in sources] == [None, None]


def test_a_url_is_taken_as_it_is() -> None:
    assert shown("https://example.org/a*b.jpg?x=[1]") == ["https://example.org/a*b.jpg?x=[1]"]


@pytest.mark.parametrize("operand", ["absent.jpg", "no/such/*.jpg", "photos/deep/deeper/empty"])
def test_what_is_not_there_is_an_error_in_its_place_and_the_others_stay(photos: Path, operand: str) -> None:
    (photos / "deep/deeper/empty").mkdir()
    sources, _ = expand(["photos/a.png", operand, "photos/b.JPG"])
    assert [source.error is None for source in sources] == [True, False, True]
    assert sources[1].shown == operand


def test_text_on_standard_input_is_a_list_of_paths_and_patterns_in_it_are_names(photos: Path) -> None:
    (photos / "star*.png").touch()
    lines = b"photos/a.png\r\n\nphotos/star*.png\n  \nabsent.jpg\nhttp://example.org/x.jpg"
    sources, _ = expand(["-"], io.BytesIO(lines))
    assert [source.shown for source in sources] == [
        "photos/a.png", "photos/star*.png", "absent.jpg", "http://example.org/x.jpg",
    ]  # fmt: skip
    assert [source.error is None for source in sources] == [True, True, False, True]


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a\1\0\1\0"])
def test_anything_else_on_standard_input_is_an_image(head: bytes) -> None:
    sources, _ = expand(["-"], io.BytesIO(head))
    assert [(source.shown, source.image) for source in sources] == [("stdin", head)]


def test_nothing_on_standard_input_is_an_error() -> None:
    sources, _ = expand(["-"], io.BytesIO(b" \n"))
    assert sources[0].error is not None


@given(st.binary(max_size=200))
def test_any_bytes_on_standard_input_give_images_or_errors(data: bytes) -> None:
    assert all(isinstance(source, Source) for source in expand(["-"], io.BytesIO(data))[0])


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/cat.jpg", "cat"), ("https://x.org/d/dog.png?size=2#top", "dog"), ("stdin", "stdin"), ("https://x.org/", "x")],
)
def test_a_picture_is_called_as_its_photo(name: str, stem: str) -> None:
    assert Source(name).stem == stem
