"""Random key maps: saving undoes loading and loading undoes saving, whatever the rules and their order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from zoo.checkpoints.keymap import KeyMap, Merge, Prefix, Rename, Renumber, Reshape, Rule, Scale, Split, Transpose

SHAPE = (6, 4, 2)
PARTS = ("q", "k", "v")


class Family(NamedTuple):
    """Rules for some names, and the names they are for."""

    rules: list[Rule]
    names: list[str]


@st.composite
def families(draw: st.DrawFn, number: int) -> Family:
    """A chain of rules over the names of one family: a first step by name, then any number of changes of value."""
    layers = draw(st.lists(st.integers(0, 11), min_size=1, max_size=3, unique=True))
    leaf = draw(st.sampled_from(["weight", "bias"]))
    published, native = f"p{number}", f"n{number}"
    rules: list[Rule] = []
    kind = draw(st.sampled_from(["rename", "renumber", "split", "uneven split", "merge", "prefix"]))
    dim = draw(st.sampled_from([0, 1, -1, -2]))
    names = [f"{published}.{i}.{leaf}" for i in layers]
    here = rf"{native}.(\d+).{leaf}"
    values = rf"{native}\.\d+\.{leaf}"
    if kind == "rename":
        rules.append(Rename(rf"{published}.(\d+).(weight|bias)", rf"{native}.\1.\2"))
    elif kind == "renumber":
        rules += [Rename(rf"{published}.(\d+).(.+)", rf"{native}.\1.\2"), Renumber(here, draw(st.integers(0, 5)))]
    elif kind == "prefix":
        rules.append(Prefix(f"{published}.", f"{native}."))
    elif kind in ("split", "uneven split"):
        extent = SHAPE[dim]
        equal = [extent // 2] * 2
        sizes = equal if kind == "split" else [1, extent - 1]
        whole = rf"{published}.(\d+).(weight|bias)"
        rules.append(
            Split(
                whole, [rf"{native}.\1.{part}.\2" for part in PARTS[:2]], dim=dim, sizes=sizes if sizes != equal else ()
            )
        )
        values = rf"{native}\.\d+\.k\.{leaf}"
    else:
        names = [f"{published}.{i}.{part}.{leaf}" for i in layers for part in PARTS]
        rules.append(Merge([rf"{published}.(\d+).{part}.(weight|bias)" for part in PARTS], rf"{native}.\1.\2", dim=dim))
    for change in draw(st.lists(st.sampled_from(["transpose", "permute", "scale", "name"]), max_size=3)):
        if change == "transpose":
            rules.append(Transpose(values))
        elif change == "permute":
            rules.append(Transpose(values, draw(st.permutations(range(3)))))
        elif change == "scale":
            rules.append(Scale(values, draw(st.sampled_from([0.5, 8.0, -1.0]))))
        elif kind in ("rename", "prefix"):
            rules.append(Rename(rf"{native}.(\d+).{leaf}", rf"{native}x.\1.{leaf}"))
            native, values = f"{native}x", rf"{native}x\.\d+\.{leaf}"
    if kind in ("rename", "prefix") and draw(st.booleans()):
        rules += [Transpose(values, (0, 1, 2)), Reshape(rf"q{number}.*", (1,), (1, 1))]  # these two change nothing
    return Family(rules, names)


def interleaved(chains: list[list[Rule]], order: list[int]) -> list[Rule]:
    """The chains' rules, each chain in its own order."""
    waiting = [list(chain) for chain in chains]
    rules = [waiting[i % len(waiting)].pop(0) for i in order if waiting[i % len(waiting)]]
    return rules + [rule for chain in waiting for rule in chain]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@settings(deadline=None, max_examples=120)
@given(st.tuples(*(families(i) for i in range(3))), st.lists(st.integers(0, 2), max_size=12))
def test_a_random_map_and_its_reverse_are_identities(chosen: tuple[Family, ...], order: list[int]) -> None:
    keys = KeyMap(*interleaved([family.rules for family in chosen], order))
    names = [name for family in chosen for name in family.names]
    published = {name: torch.randn(SHAPE) for name in [*names, "left.alone"]}
    state = keys.load(published)
    assert not any(name in published for name in state.tensors if name != "left.alone")
    assert same(keys.save(state.tensors), published)
    native = {name: torch.randn_like(tensor) for name, tensor in state.tensors.items()}
    assert same(keys.load(keys.save(native)).tensors, native)
