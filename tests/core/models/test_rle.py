"""COCO's run-length code: letter for letter pycocotools', and back."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from pycocotools import mask as coco_masks

from zoo.errors import FormatError
from zoo.models.rle import decode_rle, encode_rle

sides = st.integers(1, 40)


@st.composite
def masks(draw: st.DrawFn) -> torch.Tensor:
    """Noise of any density, or long runs."""
    height, width, seed, density = draw(sides), draw(sides), draw(st.integers(0, 9999)), draw(st.floats(0, 1))
    noise = np.random.default_rng(seed)
    mask = noise.random((height, width)) < density
    if draw(st.booleans()):
        mask = np.repeat(np.repeat(mask, draw(st.integers(1, 30)), 0), draw(st.integers(1, 30)), 1)
    return torch.from_numpy(mask)


def theirs(mask: torch.Tensor) -> dict[str, object]:
    code = coco_masks.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@settings(max_examples=200, deadline=None)
@given(masks())
def test_the_code_is_pycocotools_letter_for_letter_and_reads_back(mask):
    code = encode_rle(mask)
    assert code == theirs(mask)
    assert torch.equal(decode_rle(code), mask)
    assert torch.equal(decode_rle({**code, "counts": code["counts"].encode()}), mask)


@pytest.mark.parametrize(
    "mask", [torch.zeros(3, 5), torch.ones(3, 5), torch.eye(700), torch.ones(2000, 1500)], ids=["0", "1", "eye", "long"]
)
def test_plain_masks(mask):
    assert encode_rle(mask.bool()) == theirs(mask)
    assert torch.equal(decode_rle(encode_rle(mask.bool())), mask.bool())


def test_uncompressed_counts_are_read_by_columns():
    mask = decode_rle({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"size": [2, 3]},
        {"size": [2], "counts": "6"},
        {"size": [2, -3], "counts": "6"},
        {"size": ["2", 3], "counts": "6"},
        {"size": [2, 3], "counts": "7"},
        {"size": [2, 3], "counts": [7]},
        {"size": [2, 3], "counts": [8, -2]},
        {"size": [2, 3], "counts": [6.0]},
        {"size": [2, 3], "counts": None},
        {"size": [2, 3], "counts": "\x00"},
        {"size": [2, 3], "counts": "é"},
        {"size": [2, 3], "counts": "P"},
        {"size": [2, 3], "counts": "o" * 100},
        {"size": [10**9, 10**9], "counts": [10**18]},
    ],
    ids=repr,
)
def test_a_damaged_code_is_a_format_error(wrong):
    with pytest.raises(FormatError):
        decode_rle(wrong)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_text_is_a_mask_or_a_format_error(text):
    with contextlib.suppress(FormatError):
        assert decode_rle({"size": [4, 5], "counts": text}).shape == (4, 5)
