"""The reference grammar, driven by hypothesis."""

from __future__ import annotations

import pickle
import string
import unicodedata

import pytest
from hypothesis import example, given, strategies as st

from zoo.errors import RefError
from zoo.refs import MAX_LENGTH, Ref, is_external, parse

words = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=40)
refs = st.builds(
    Ref,
    name=words,
    namespace=st.none() | words,
    checkpoint=st.none() | words,
    version=st.none() | st.integers(1, 10**9),
)
LOOK_ALIKES = "\ufb01\u0430\uff11\uff0f\uff0e\uff20\u212a\u0130e\u0301\0"
"""A ligature, a Cyrillic a, full-width 1 / . and @, the Kelvin sign, a dotted I, a combining accent, NUL."""
near_references = st.lists(
    st.sampled_from([*"ab1_/.@-A \t\n", "resnet50", "cnn", "@1", "@0", "@01", *LOOK_ALIKES])
).map("".join)


def parsed(text: object) -> Ref | RefError:
    """The reference, or the error that refuses it; anything else that is raised fails the test."""
    try:
        return parse(text)  # type: ignore[arg-type]  # junk is the point
    except RefError as error:
        return error


@given(refs)
def test_a_reference_survives_its_text(ref: Ref) -> None:
    assert parse(str(ref)) == ref


@given(near_references | st.text() | refs.map(str))
@example("a@\uff11")  # int() reads a full-width 1 as 1
@example("a@\u0661")
@example("a@1_0")
@example("a@+1")
def test_a_text_that_parses_is_the_text_of_its_reference(text: str) -> None:
    ref = parsed(text)
    assert isinstance(ref, RefError) or str(ref) == text


@given(refs, refs)
def test_different_references_have_different_texts_whatever_the_file_system_folds(one: Ref, other: Ref) -> None:
    if one != other:
        assert str(one) != str(other)
        assert str(one).casefold() != str(other).casefold()
        assert unicodedata.normalize("NFKC", str(one)) != unicodedata.normalize("NFKC", str(other))


@given(near_references, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
@example("\ufb01t", "NFKC")
@example("resnet\uff150", "NFKC")
@example("\u212a", "NFKC")
def test_nothing_but_the_text_itself_means_a_reference(text: str, form: str) -> None:
    """A text that another folds to is refused, unless it is that text: no look-alikes."""
    for folded in (unicodedata.normalize(form, text), text.casefold(), text.lower(), text.strip()):
        if folded != text:
            assert not (_parses(folded) and _parses(text))


def _parses(text: str) -> bool:
    return isinstance(parsed(text), Ref)


def _first_fault(text: str) -> int:
    """The first place at which no reference that begins like `text` could go on: found by trying, not by parsing."""
    for at in range(len(text) + 1):
        begun = text[:at]
        if not any(_parses(begun + rest) for rest in ("", "a", "1", "a/a")):
            return at - 1
    return len(text)


@given(near_references.filter(lambda text: len(text) < 60) | st.text(max_size=60))
@example("")
@example("a/")
@example("a/b/c")
@example("a.b.c")
@example("a@1@2")
@example("a@01")
@example("\x00a")
@example("a\nb")
def test_the_caret_stands_under_the_first_fault(text: str) -> None:
    """Under the first character after which nothing can be saved; at the end where only more is missing."""
    error = parsed(text)
    if isinstance(error, Ref):
        return
    _, shown, caret = error.message.split("\n")
    assert len(shown) == len(text) + 4
    assert caret.strip() == "^"
    assert caret.index("^") - 4 == _first_fault(text)


@given(
    st.none()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.lists(st.text())
    | st.text()
    | st.text(st.characters())
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
    | st.binary().map(lambda data: data.decode("latin-1"))
)
@example("a" * 10_000)
@example("@" * MAX_LENGTH)
@example("a@" + "9" * 150)
@example("\ud800")
def test_junk_raises_only_a_ref_error_that_can_be_printed_and_pickled(junk: object) -> None:
    outcome = parsed(junk)
    if isinstance(outcome, RefError):
        assert len(str(outcome)) < 10 * MAX_LENGTH
        assert outcome.fix or outcome.asked
        assert str(pickle.loads(pickle.dumps(outcome))) == str(outcome)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("swin_b", Ref("swin_b")),
        ("swin_b.ms_in22k_ft_in1k", Ref("swin_b", None, "ms_in22k_ft_in1k")),
        ("detection/rtdetr_r50.coco", Ref("rtdetr_r50", "detection", "coco")),
        ("acme/swin_b.coco@2", Ref("swin_b", "acme", "coco", 2)),
        ("0", Ref("0")),
    ],
)
def test_the_examples_of_the_grammar(text: str, ref: Ref) -> None:
    assert parse(text) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        " a",
        "a ",
        "A",
        "a-b",
        "a/b/c",
        "/a",
        "a/",
        "a.",
        ".a",
        "a@",
        "a@0",
        "a@01",
        "a@-1",
        "a@1.5",
        "a..b",
        "a@1.b",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(RefError):
        parse(text)


def test_only_an_explicit_scheme_is_external() -> None:
    assert is_external("hf://org/repo@main")
    assert is_external("file://x.safetensors")
    assert is_external("local/my_model@production")
    assert not is_external("locals/my_model")
    assert not is_external("local")
    assert not is_external("org/repo")
    assert not is_external("https://example.org/x")
    assert not is_external(None)  # type: ignore[arg-type]  # junk is the point
