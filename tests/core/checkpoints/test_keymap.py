"""Key maps: declarative, reversible, and strict about what does not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from zoo.checkpoints.keymap import Drop, KeyMap, Merge, Prefix, Rename, Renumber, Reshape, Rule, Scale, Split, Transpose
from zoo.errors import FormatError


def named(*names: str) -> dict[str, Tensor]:
    """A tensor a name, each different."""
    return {name: torch.full((6, 4), float(i)) for i, name in enumerate(names)}


def loaded(*rules: Rule, names: tuple[str, ...]) -> list[str]:
    """What these names become."""
    return list(KeyMap(*rules).load(named(*names)).tensors)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Equal names and values."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_prefix_is_put_on_or_taken_off() -> None:
    assert loaded(Prefix("", "encoder."), names=("a", "b")) == ["encoder.a", "encoder.b"]
    assert loaded(Prefix("vit.", ""), names=("vit.a", "head.b")) == ["a", "head.b"]


def test_a_prefix_spares_what_it_is_told_to() -> None:
    keys = KeyMap(Prefix("vit.", "", unless=("head.",)))
    published = named("vit.a", "head.b")
    assert same(keys.save(keys.load(published).tensors), published)


def test_a_rename_carries_its_groups() -> None:
    rule = Rename(r"layers.(\d+).(weight|bias)", r"blocks.\1.\2")
    assert loaded(rule, names=("layers.12.bias", "layers.x.bias", "layersX1.bias", "my.layers.1.bias")) == [
        "blocks.12.bias",
        "layers.x.bias",
        "layersX1.bias",
        "my.layers.1.bias",
    ]
    assert loaded(Rename(r"^a\.(\d+)\.(.*)$", r"\2.\1"), names=("a.3.x.y",)) == ["x.y.3"]


def test_numbers_are_moved() -> None:
    keys = KeyMap(Renumber(r"layers.(\d+).downsample.(.+)", 1))
    published = named("layers.0.downsample.weight", "layers.0.norm", "layers.1.downsample.weight")
    assert list(keys.load(published).tensors) == [
        "layers.1.downsample.weight",
        "layers.0.norm",
        "layers.2.downsample.weight",
    ]
    assert same(keys.save(keys.load(published).tensors), published)


QKV = Split(r"(.+).qkv.(weight|bias)", (r"\1.q.\2", r"\1.k.\2", r"\1.v.\2"))


def test_a_fused_tensor_is_split() -> None:
    fused = torch.arange(24.0).reshape(6, 4)
    state = KeyMap(QKV).load({"a.qkv.weight": fused})
    assert list(state.tensors) == ["a.q.weight", "a.k.weight", "a.v.weight"]
    assert torch.equal(state.tensors["a.k.weight"], fused[2:4])
    assert state.adapted["a.k.weight"] == "part 2 of 3"
    assert state.origins["a.k.weight"] == "a.qkv.weight"


def test_parts_are_merged_in_the_order_of_the_rule() -> None:
    rule = Merge((r"(\d+).query", r"(\d+).key", r"(\d+).value"), r"blocks.\1.qkv")
    parts = {"0.value": torch.full((1, 2), 3.0), "0.query": torch.full((2, 2), 1.0), "0.key": torch.full((1, 2), 2.0)}
    state = KeyMap(rule).load(parts)
    assert state.tensors["blocks.0.qkv"][:, 0].tolist() == [1, 1, 2, 3]
    assert state.origins["blocks.0.qkv"] == "0.query, 0.key, 0.value"
    uneven = KeyMap(Merge((r"(\d+).query", r"(\d+).key", r"(\d+).value"), r"blocks.\1.qkv", sizes=(2, 1, 1)))
    assert same(uneven.save(uneven.load(parts).tensors), parts)


def test_a_merge_with_a_part_missing_names_it() -> None:
    rule = Merge((r"(\d+).q", r"(\d+).k"), r"\1.qk")
    with pytest.raises(FormatError, match="lacks some") as caught:
        KeyMap(rule).load(named("0.q"))
    assert caught.value.asked == "0.k"


def test_values_are_transposed_reshaped_and_scaled() -> None:
    keys = KeyMap(Transpose(r".*kernel", (3, 2, 0, 1)), Reshape(r"fc", (8, 2), (8, 2, 1, 1)), Scale(r"fc", 0.5))
    published = {"a.kernel": torch.randn(3, 5, 7, 2), "fc": torch.randn(8, 2), "b": torch.randn(2)}
    state = keys.load(published)
    assert torch.equal(state.tensors["a.kernel"], published["a.kernel"].permute(3, 2, 0, 1))
    assert state.tensors["a.kernel"].is_contiguous()
    assert torch.equal(state.tensors["fc"], published["fc"][..., None, None] / 2)
    assert state.adapted == {"a.kernel": "transposed", "fc": "reshaped, scaled by 0.5"}
    assert same(keys.save(state.tensors), published)


def test_what_is_dropped_is_reported_under_its_published_name() -> None:
    keys = KeyMap(Prefix("model.", ""), Drop(r"aux\..*", "used in training only"))
    state = keys.load(named("model.a", "model.aux.b"))
    assert list(state.tensors) == ["a"]
    assert state.skipped == {"model.aux.b": "used in training only"}


def test_names_that_nothing_matches_stay_and_are_traced_to_their_origin() -> None:
    state = KeyMap(Prefix("model.", "")).load(named("model.a", "other"))
    assert state.origins == {"a": "model.a", "other": "other"}


def test_two_names_that_fall_together_are_an_error_that_names_both() -> None:
    with pytest.raises(FormatError, match="would both be 'a'") as caught:
        KeyMap(Prefix("model.", "")).load(named("a", "model.a"))
    assert caught.value.found == "a and model.a"


@pytest.mark.parametrize(
    "rule",
    [
        Split(r"(.+)", (r"\1.q", r"\1.k", r"\1.v", r"\1.x")),
        Split(r"(.+)", (r"\1.q", r"\1.k"), sizes=(3, 4)),
        Split(r"(.+)", (r"\1.q", r"\1.k"), dim=5),
        Transpose(r".*", (2, 1, 0)),
        Reshape(r".*", (6, 4), (5, 5)),
    ],
)
def test_a_tensor_of_another_shape_is_a_format_error(rule: Rule) -> None:
    with pytest.raises(FormatError, match="does not fit its key map"):
        KeyMap(rule).load(named("a"))


@pytest.mark.parametrize(
    ("published", "native"),
    [
        (r"a.(\d+)", "b"),  # the number would be lost
        (r"a.(\d+)", r"b.\1.\1"),
        (r"a.(\d+)", r"b.\2"),
        (r"a.*", "b"),  # no way back
        (r"a.[ab]", "b"),
        (r"a.(\d+", r"b.\1"),
        (r"a.((x)y)", r"b.\1"),
        (r"a.(+)", r"b.\1"),
        (r"a.\d", "b"),
    ],
)
def test_a_rule_that_could_not_be_undone_is_refused_when_it_is_written(published: str, native: str) -> None:
    with pytest.raises(FormatError, match="not a key pattern"):
        Rename(published, native)


def test_a_merge_of_unlike_parts_is_refused_when_it_is_written() -> None:
    with pytest.raises(FormatError, match="same groups"):
        Merge((r"(\d+).q", r"(\w+).k"), r"\1.qk")


WHOLE = KeyMap(
    Prefix("model.", ""),
    Rename(r"layers.(\d+).(.+)", r"blocks.\1.\2"),
    QKV,
    Merge((r"blocks.(\d+).gate.(weight|bias)", r"blocks.(\d+).up.(weight|bias)"), r"blocks.\1.mlp.\2"),
    Transpose(r".*\.kernel"),
    Scale(r"head\.weight", 0.25),
    Renumber(r"stages.(\d+).(.+)", 1),
)
LEAVES = st.sampled_from(["weight", "bias"])
NAMES = st.one_of(
    st.builds("model.layers.{}.qkv.{}".format, st.integers(0, 11), LEAVES),
    st.builds("model.layers.{}.norm.{}".format, st.integers(0, 11), LEAVES),
    st.builds("model.stages.{}.conv.{}".format, st.integers(0, 11), LEAVES),
    st.builds("model.{}.kernel".format, st.sampled_from(["stem", "neck"])),
    st.just("model.head.weight"),
)


@settings(deadline=None, max_examples=80)
@given(st.sets(NAMES, max_size=8), st.sets(st.integers(0, 5), max_size=3))
def test_saving_undoes_loading(names: set[str], merged: set[int]) -> None:
    names |= {f"model.layers.{i}.{part}.weight" for i in merged for part in ("gate", "up")}
    published = {name: torch.randn(6, 4) for name in sorted(names)}
    state = WHOLE.load(published)
    assert same(WHOLE.save(state.tensors), published)
    assert state.origins.keys() == state.tensors.keys()


@settings(deadline=None, max_examples=30)
@given(st.sets(NAMES, max_size=8))
def test_a_structure_maps_as_the_tensors_do(names: set[str]) -> None:
    published = {name: torch.randn(6, 4) for name in sorted(names)}
    real = WHOLE.load(published)
    meta = WHOLE.load({name: tensor.to("meta") for name, tensor in published.items()})
    assert {n: t.shape for n, t in meta.tensors.items()} == {n: t.shape for n, t in real.tensors.items()}
    assert meta[1:] == real[1:]
    assert all(tensor.is_meta for tensor in meta.tensors.values())


def test_loading_leaves_the_file_s_tensors_alone() -> None:
    published = {"model.head.weight": torch.ones(2, 2), "model.a.kernel": torch.randn(2, 3)}
    before = {name: tensor.clone() for name, tensor in published.items()}
    WHOLE.load(published)
    assert same(published, before)
