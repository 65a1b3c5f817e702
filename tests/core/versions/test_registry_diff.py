"""What differs between two versions, to the number."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from registered_models import Pebble, pebble

import zoo
from zoo.checkpoints.store import Store
from zoo.versions import comparison


def registered(registry: zoo.ModelRegistry, version: str, model: Pebble) -> str:
    registry.register(name="m", version=version, model=model)
    return f"m@{version}"


def test_the_largest_difference_of_each_tensor_is_told(
    registry: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_PIECE", 3)  # so that a tensor has many pieces
    before, after = pebble(1.0), pebble(1.0)
    with torch.no_grad():
        after.fc.weight[2, 3] = -0.5
        after.fc.weight[0, 0] = 1.25
        after.stem.bias[0] = 1.5
    one, other = registered(registry, "1.0.0", before), registered(registry, "1.1.0", after)
    assert registry.diff(one, other).largest is None
    found = registry.diff(one, other, weights=True)
    assert found.largest == {"fc.weight": 1.5, "stem.bias": 0.5}
    assert found.tensors == {}
    assert registry.diff(one, one, weights=True).largest == {}


def test_what_cannot_be_subtracted_is_told_all_the_same(registry: zoo.ModelRegistry) -> None:
    models = [pebble(1.0) for _ in range(4)]
    with torch.no_grad():
        models[1].fc.bias[0] = math.nan
        models[2].fc.bias[0] = math.inf
        models[3] = pebble(1.0, num_classes=5)
    names = [registered(registry, f"1.0.{number}", model) for number, model in enumerate(models)]
    for other in (1, 2):
        found = registry.diff(names[0], names[other], weights=True)
        assert found.largest == {"fc.bias": math.inf}
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["largest"] == {"fc.bias": None}
    both_nan = pebble(1.0)
    with torch.no_grad():
        both_nan.fc.bias[0] = math.nan
        both_nan.stem.bias[0] = 3.0
    assert registry.diff(names[1], registered(registry, "2.0.0", both_nan), weights=True).largest == {"stem.bias": 2.0}
    found = registry.diff(names[0], names[3], weights=True)
    assert (found.largest, sorted(found.tensors)) == ({}, ["fc.bias", "fc.weight"])  # another shape is no number


def test_precisions_compare_by_value(registry: zoo.ModelRegistry) -> None:
    one = registered(registry, "1.0.0", pebble(1.0 + 2**-12))
    other = registered(registry, "1.0.1", pebble(1.0 + 2**-12).to(torch.bfloat16))
    found = registry.diff(one, other, weights=True)
    assert set(found.largest.values()) == {2**-12}
    assert len(found.tensors) == len(found.largest)  # the dtypes differ too


def test_damaged_weights_are_not_compared(registry: zoo.ModelRegistry) -> None:
    one, other = registered(registry, "1.0.0", pebble(1.0)), registered(registry, "1.0.1", pebble(2.0))
    path = Path(Store().blob_path(registry.show("m", "1.0.1").sha256))
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(body)
    assert registry.diff(one, other).same_weights is False
    with pytest.raises(zoo.DigestError, match=r"local/m@1\.0\.1"):
        registry.diff(one, other, weights=True)
