"""One-stage detectors as exported and as compiled programs give what they give as modules."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from test_dense import detector, noise


@pytest.mark.long
@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_onnx_gives_the_same_for_any_number_of_images(family: str) -> None:
    model = detector(family, score_threshold=0.55, max_detections=20)
    names = ["boxes", "scores", "labels"]
    program = torch.onnx.export(
        model,
        (noise(2, 3, 64, 96),),
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("B")}},
        input_names=["images"],
        output_names=names,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = noise(count, 3, 64, 96)
        wanted = model(images)
        assert wanted["labels"].ge(0).sum() > 5
        for name, values in zip(names, session.run(None, {"images": images.numpy()}), strict=True):
            np.testing.assert_allclose(values, wanted[name].detach().numpy(), atol=1e-4, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_what_comes_before_the_selection_is_one_graph(family: str) -> None:
    model, images = detector(family), noise(2, 3, 64, 96)

    def before_selection(images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = model.maps(images)
        return {**model.head(maps), "anchors": torch.cat(model.head.anchors(images, maps))}

    compiled = torch.compile(before_selection, fullgraph=True, backend="eager")(images)
    for name, values in before_selection(images).items():
        torch.testing.assert_close(compiled[name], values)
