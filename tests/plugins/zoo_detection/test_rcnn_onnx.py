"""Two-stage detectors as exported and as compiled programs give what they give as modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from test_rcnn import noise, small
from torch import Tensor

NAMES = ["boxes", "scores", "labels"]


def session_of(model: Any, dynamic: dict[int, Any], count: int = 2) -> Any:
    program = torch.onnx.export(
        model,
        (noise(count, 3, 64, 96),),
        dynamo=True,
        dynamic_shapes={"images": dynamic},
        input_names=["images"],
        output_names=NAMES,
        verbose=False,
    )
    assert program is not None
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])


def assert_equal(session: Any, model: Any, images: Tensor) -> None:
    with torch.no_grad():
        wanted = model(images)
    assert (wanted["labels"] >= 0).sum() > 5
    for name, values in zip(NAMES, session.run(None, {"images": images.numpy()}), strict=True):
        np.testing.assert_allclose(values, wanted[name].numpy(), atol=1e-4, err_msg=name)


@pytest.mark.long
def test_onnx_gives_the_same_for_any_number_of_images() -> None:
    model = small(max_detections=20)
    session = session_of(model, {0: torch.export.Dim("B", max=1024)})
    for count in (1, 3):
        assert_equal(session, model, noise(count, 3, 64, 96, seed=count))


@pytest.mark.long
def test_all_but_the_choice_of_boxes_is_one_graph() -> None:
    model, images = small(), noise(2, 3, 64, 96)

    def dense(images: Tensor) -> list[Tensor]:
        maps = model.maps(images)
        return [*maps, *(level for part in model.rpn(images, maps) for level in part)]

    for ours, theirs in zip(
        torch.compile(dense, fullgraph=True, backend="aot_eager")(images), dense(images), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    cuts = noise(9, 32, 7, 7)
    stage = torch.compile(model.looks.stage, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(stage(cuts), model.looks.stage(cuts))
