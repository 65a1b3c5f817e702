"""Records turn into JSON and back without loss, and junk raises only `ManifestError`, naming its place."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from zoo.errors import ManifestError
from zoo.specs import CheckpointSpec, InputSpec, Metric, ModelSpec, PluginSpec, Record

texts = st.text(max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
text_tuples = st.lists(texts, max_size=3).map(tuple)
counts = st.none() | st.integers(0, 2**62)


@st.composite
def inputs(draw: st.DrawFn) -> InputSpec:
    channels = draw(st.integers(1, 4))
    per_channel = st.tuples(*[st.floats(0.01, 10)] * channels)
    resize = draw(st.sampled_from(["shortest", "stretch", "letterbox", "fit"]))
    return InputSpec(
        size=(draw(st.integers(4, 2000)), draw(st.integers(4, 2000))),
        resize=resize,
        crop_pct=1.0 if resize == "fit" else draw(st.floats(0.25, 4)),
        interpolation=draw(st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])),
        antialias=draw(st.booleans()),
        channels=channels,
        channel_order=draw(st.sampled_from(["rgb", "bgr"])),
        mean=draw(per_channel),
        std=draw(per_channel),
        pad_value=draw(st.none() | st.floats(0, 255)),
        pad_side=draw(st.sampled_from(["center", "end"])),
        fixed_size=resize != "fit" and draw(st.booleans()),
        divisor=draw(st.integers(1, 64)),
    )


metrics = st.builds(Metric, name=texts, value=floats, dataset=texts, unit=texts, conditions=json_objects, source=texts)
checkpoints = st.builds(
    CheckpointSpec,
    name=texts,
    sources=text_tuples,
    sha256=st.none() | texts,
    size=counts,
    license=texts,
    gated=st.booleans(),
    labels=st.none() | texts,
    num_classes=counts,
    input=inputs(),
    config=json_objects,
    trained_on=text_tuples,
    metrics=st.lists(metrics, max_size=2).map(tuple),
    aliases=text_tuples,
)
models = st.builds(
    ModelSpec,
    name=texts,
    factory=texts,
    kind=st.sampled_from(["model", "backbone", "neck", "head"]),
    config=json_objects,
    version=st.integers(),
    tags=text_tuples,
    input=inputs(),
    checkpoints=st.lists(checkpoints, max_size=2).map(tuple),
    channels=st.lists(st.integers(), max_size=3).map(tuple),
    params=counts,
)
plugins = st.builds(
    PluginSpec,
    namespace=texts,
    distribution=texts,
    api=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    hooks=text_tuples,
    models=st.lists(models, max_size=2).map(tuple),
    schemas=json_objects,
)


@given(plugins | models | checkpoints | metrics | inputs())
def test_a_record_survives_json(record: Record) -> None:
    text = json.dumps(record.to_dict(), allow_nan=False)
    back = type(record).from_dict(json.loads(text))
    assert back == record
    assert json.dumps(back.to_dict()) == text


@given(plugins)
def test_what_comes_back_has_the_annotated_types(plugin: PluginSpec) -> None:
    """Equality would let a list pass for nothing and True for 1; so the types are looked at too."""
    assert _types(PluginSpec.from_dict(json.loads(json.dumps(plugin.to_dict())))) == _types(plugin)


def _types(value: Any) -> Any:
    if isinstance(value, Record):
        return type(value), [_types(getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        return type(value), [_types(v) for v in value]
    if isinstance(value, dict):
        return dict, {k: _types(v) for k, v in value.items()}
    return type(value)


def test_what_is_at_its_default_is_left_out() -> None:
    assert ModelSpec(name="a", factory="b:C").to_dict() == {"name": "a", "factory": "b:C"}
    assert InputSpec(size=(224, 224)).to_dict() == {}


fields = sorted(
    {
        f.name
        for record in (PluginSpec, ModelSpec, CheckpointSpec, InputSpec, Metric)
        for f in dataclasses.fields(record)
    }
)
junk_objects = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from(fields), inner, max_size=6) | st.lists(inner, max_size=2),
    max_leaves=20,
)


@given(st.sampled_from([PluginSpec, ModelSpec, CheckpointSpec, InputSpec, Metric]), junk_objects)
@example(InputSpec, {"size": [0, 0]})
@example(InputSpec, {"size": [10**400, 1]})
@example(InputSpec, {"size": [1, 1], "crop_pct": 2.0})
@example(InputSpec, {"crop_pct": 0})
@example(InputSpec, {"std": [0, 0, 0]})
@example(InputSpec, {"channels": -1, "mean": [], "std": []})
@example(InputSpec, {"channels": 0, "mean": [], "std": []})
@example(InputSpec, {"crop_pct": 1e-320})
@example(InputSpec, {"crop_pct": 10**400})
@example(InputSpec, {"resize": ["shortest"]})
@example(InputSpec, {"resize": {"shortest": 1}})
@example(InputSpec, {"divisor": 0})
@example(ModelSpec, {"name": "a"})
@example(ModelSpec, {1: 2, "name": "a"})
def test_junk_raises_only_a_manifest_error(record: type[Record], junk: Any) -> None:
    try:
        made = record.from_dict(junk)
    except ManifestError:
        return
    assert record.from_dict(made.to_dict()) == made
    assert not isinstance(made, InputSpec) or min(made.resize_to) >= 1


@given(models, st.data())
def test_one_wrong_value_is_named_by_its_place(model: ModelSpec, data: st.DataObject) -> None:
    plain = json.loads(json.dumps(model.to_dict()))
    name, wrong = data.draw(
        st.sampled_from(
            [("params", "many"), ("params", True), ("params", 1.5), ("version", None), ("kind", "nick"), ("tags", "a"),
             ("tags", [1]), ("channels", ["1"]), ("input", []), ("config", []), ("checkpoints", {}), ("name", 3)]
        )
    )  # fmt: skip
    with pytest.raises(ManifestError, match=rf"ModelSpec\.{name}"):
        ModelSpec.from_dict({**plain, name: wrong})


def test_a_fault_deep_inside_is_named_by_its_whole_path() -> None:
    plugin = {
        "namespace": "a",
        "distribution": "zoo-a",
        "models": [{"name": "m", "factory": "f", "checkpoints": [{"name": "c", "sources": [], "input": {"siz": 1}}]}],
    }
    with pytest.raises(ManifestError, match=r"models\[0\]\.checkpoints\[0\]\.input.*unknown field 'siz'"):
        PluginSpec.from_dict(plugin)


@given(inputs(), st.integers(4, 3000), st.integers(4, 3000))
def test_another_size_keeps_everything_else(spec: InputSpec, height: int, width: int) -> None:
    other = spec.with_size(height, width)
    assert other.size == (height, width)
    assert other.with_size(*spec.size) == spec


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (1, (0.5,), (0.2,)),
        (2, (0.4, 0.5), (0.1, 0.2)),
        (3, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)),
        (5, (0.4, 0.5, 0.6, 0.4, 0.5), (0.1, 0.2, 0.3, 0.1, 0.2)),
    ],
)
def test_another_number_of_channels_gets_the_average_or_the_same_over_again(
    channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    spec = InputSpec(size=(32, 48), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    other = spec.with_channels(channels)
    assert (other.channels, other.mean, other.std) == (channels, pytest.approx(mean), pytest.approx(std))
    assert dataclasses.replace(other, channels=3, mean=spec.mean, std=spec.std) == spec
    with pytest.raises(ManifestError, match="at least 1"):
        spec.with_channels(0)


@pytest.mark.parametrize(
    ("size", "crop_pct"), [((999_999, 999_999), 1.0), ((1, 16_385), 1.0), ((16_385, 1), 2.0), ((16_384, 16_384), 0.99)]
)
def test_a_size_that_no_machine_can_hold_is_refused(size: tuple[int, int], crop_pct: float) -> None:
    with pytest.raises(ManifestError, match="16384 pixels"):
        InputSpec.from_dict({"size": list(size), "crop_pct": crop_pct})
    assert InputSpec(size=(16_384, 16_384), crop_pct=1.0).resize_to == (16_384, 16_384)


@pytest.mark.parametrize(
    ("size", "crop_pct", "resized"),
    [(224, 0.875, 256), (224, 224 / 232, 232), (288, 1.0, 288), (224, 0.95, 235), (256, 0.875, 292), (384, 0.9, 426)],
)
def test_the_resized_edge_is_rounded_down_as_timm_does(size: int, crop_pct: float, resized: int) -> None:
    assert InputSpec(size=(size, size), crop_pct=crop_pct).resize_to == (resized, resized)


def test_the_default_checkpoint_is_the_first() -> None:
    first, second = (CheckpointSpec(name=name, sources=("hf://a/b/c",)) for name in ("one", "two"))
    model = ModelSpec(name="m", factory="f:F", checkpoints=(first, second))
    assert model.checkpoint(None) is first
    assert model.checkpoint("two") is second
    assert model.checkpoint("three") is None
    assert ModelSpec(name="m", factory="f:F").checkpoint(None) is None
