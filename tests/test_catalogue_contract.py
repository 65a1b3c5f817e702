"""Every model of every first-party catalogue keeps its task's contract. On the meta device, so that the largest costs
what the smallest costs."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch

import zoo
from zoo.build.options import check_options
from zoo.catalog import open_catalog
from zoo.errors import OptionError, UnsupportedError
from zoo.models.classifier import Classifier
from zoo.models.config import ModelConfig
from zoo.models.counting import multiply_accumulates
from zoo.models.detector import Detector, InstanceSegmenter, KeypointDetector
from zoo.models.model import Backbone, Model
from zoo.plugin.compile import structure_of, structure_sha256
from zoo.plugin.loading import load_factory
from zoo.plugin.rows import is_composed
from zoo.specs import ModelSpec

PLUGINS = ("cnn", "detection", "vit")  # zoo-timm's rows are held against timm itself, in tests/plugins/zoo_timm

ROWS = [
    info.model
    for namespace in PLUGINS
    for info in map(zoo.info, zoo.list_models(f"{namespace}/*"))
    if not is_composed(info.model)
]
MODELS = [row for row in ROWS if row.kind == "model"]
CLASSIFIERS = [row for row in MODELS if row.task in ("classification", "features")]
DETECTORS = [row for row in MODELS if row.task in ("detection", "instance_segmentation", "keypoints")]
WITH_MAPS = [row for row in ROWS if row.channels]
TASKS: dict[str, type[Model]] = {
    "classification": Classifier,
    "features": Classifier,
    "detection": Detector,
    "instance_segmentation": InstanceSegmenter,
    "keypoints": KeypointDetector,
}
"""The task base behind each task's name; a task without one promises only what every model does."""


@cache
def built(name: str) -> Model | Backbone:
    with torch.device("meta"):
        return zoo.create(name).eval()


def test_no_plugin_is_left_out_and_none_is_empty() -> None:
    curated = [ref for ref in zoo.list_models() if not ref.startswith("timm/")]
    assert {zoo.info(ref).plugin.namespace for ref in curated} - {"core"} == set(PLUGINS)
    assert len(ROWS) > 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_model_is_what_its_row_says(row: ModelSpec) -> None:
    model = built(row.name)
    assert sum(p.numel() for p in model.parameters()) == row.params
    assert structure_sha256(structure_of(model.state_dict())) == row.structure_sha256
    assert multiply_accumulates(model, model.input_spec) == row.macs
    if isinstance(model, Model):
        assert isinstance(model, TASKS.get(row.task, Model))
        assert model.task == row.task or row.task == "features"
    else:
        assert row.kind == "backbone"
    assert {"native", *model.key_maps()} == set(row.formats)


@pytest.mark.parametrize("row", CLASSIFIERS, ids=lambda row: row.name)
def test_a_classifier_gives_what_it_promises(row: ModelSpec) -> None:
    model = built(row.name)
    assert isinstance(model, Classifier)
    images = torch.empty(2, model.input_spec.channels, *model.input_spec.size, device="meta")
    with torch.no_grad():
        outputs = model(images)
        assert all(isinstance(name, str) for name in outputs)
        embeddings = outputs["embeddings"]
        assert embeddings.ndim == 2
        assert len(embeddings) == 2
        assert model.embed(images).shape == embeddings.shape
        assert ("logits" in outputs) == (model.num_classes > 0)
        if model.num_classes:
            assert outputs["logits"].shape == (2, model.num_classes)


@pytest.mark.parametrize("row", DETECTORS, ids=lambda row: row.name)
def test_a_detector_gives_what_it_promises(row: ModelSpec) -> None:
    torch.manual_seed(0)
    model = zoo.create(row.name).eval()
    assert isinstance(model, Detector)
    height, width = model.input_spec.size if model.input_spec.resize == "stretch" else (64, 96)
    images, sizes = torch.rand(2, 3, height, width), torch.tensor([[height, width], [height // 2, width // 3]])
    some = model.selection._replace(score_threshold=0.0, max_detections=7)
    with torch.no_grad():
        found = model(images, sizes=sizes, selection=some, output_embeddings=True)
        losses = model(images, [{"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)}] * 2)
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 7, 4), (2, 7), (2, 7))
    assert labels.dtype == torch.int64
    assert labels.max() < model.num_classes
    assert scores.diff(dim=1).max() <= 0
    assert (boxes >= 0).all()
    assert (boxes <= sizes.flip(1).repeat(1, 2)[:, None]).all()
    for absent in ((labels < 0) == (scores == 0), (labels < 0) <= (boxes == 0).all(dim=2)):
        assert absent.all()
    assert found["embeddings"].shape[:2] == (2, 7)
    for task, name in ((InstanceSegmenter, "masks"), (KeypointDetector, "keypoints")):
        assert (name in found) == isinstance(model, task)
    assert "loss" in losses
    assert all(name == "loss" or name.startswith("loss_") for name in losses)
    assert torch.allclose(losses["loss"], sum(value for name, value in losses.items() if name != "loss"))


@pytest.mark.parametrize("row", WITH_MAPS, ids=lambda row: row.name)
def test_maps_are_what_the_row_says(row: ModelSpec) -> None:
    spec = built(row.name).input_spec
    sides = [-(-side // spec.divisor) * spec.divisor for side in spec.size]
    with torch.device("meta"), torch.no_grad():
        backbone = zoo.create(row.name, features_only=True).eval()
        assert isinstance(backbone, Backbone)
        maps = backbone(torch.empty(2, spec.channels, *sides))
    assert [m.shape[:2] for m in maps] == [(2, channels) for channels in row.channels]
    for m, stride in zip(maps, row.strides, strict=True):
        for side, cells in zip(sides, m.shape[2:], strict=True):
            assert cells in (side // stride, -(-side // stride))  # whole patches only, or a part of one too


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_config_round_trips_and_a_misspelt_option_is_refused(row: ModelSpec) -> None:
    resolved = open_catalog().resolve(row.name)
    factory = load_factory(row.factory, resolved.plugin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rows use the zoo's own words
        config: ModelConfig = factory.Config.of(row.config, {})
        assert factory.Config.of(config.to_dict(), {}) == config
        assert factory.Config.of(built(row.name).config.to_dict(), {}) == built(row.name).config
    name = next(iter(resolved.schema["properties"]))
    misspelt = name[:-1] + "_" + name[-1]
    with pytest.raises(OptionError, match=name):
        check_options({misspelt: 1}, resolved.schema, resolved.ref)


@pytest.mark.parametrize("row", CLASSIFIERS, ids=lambda row: row.name)
def test_attention_is_given_by_every_family_that_attends(row: ModelSpec) -> None:
    model = built(row.name)
    images = torch.empty(1, model.input_spec.channels, *model.input_spec.size, device="meta")
    with torch.no_grad():
        if row.factory.startswith("zoo_cnn."):
            with pytest.raises(UnsupportedError, match="attention"):
                model(images, output_attentions=True)
            return
        attentions = model(images, output_attentions=True)["attentions"]
    # Every layer has one projection for queries, keys and values, or one for each; a pooling head has neither.
    layers = [m for m in model.modules() if any(getattr(m, name, None) is not None for name in ("qkv", "q_proj"))]
    assert len(attentions) == len(layers) > 0
    assert all(a.ndim >= 3 and a.shape[-1] > 1 for a in attentions)
