"""A summary's figures are those that other ways of counting give, and looking costs and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.models.counting import multiply_accumulates
from zoo.specs import InputSpec
from zoo_explain import summarize
from zoo_vit import VisionTransformer


class TinyNet(zoo.Model):
    """A convolution, a layer that runs twice, a mean, a linear layer; one layer never runs."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.twice = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 10)
        self.spare = nn.Linear(8, 8)
        self.input_spec = InputSpec(size=(16, 12))

    def forward(self, images: Tensor, targets: Any = None) -> dict[str, Any]:
        return {"logits": self.head(self.twice(self.twice(self.stem(images))).mean((2, 3)))}


def test_a_small_network_is_counted_as_on_paper() -> None:
    summary = summarize(TinyNet())
    rows = {row.path: row for row in summary.rows}
    pixels = 16 * 12
    assert rows["stem"].macs == pixels * 3 * 9 * 8
    assert rows["twice"].macs == rows["twice.0"].macs == 2 * pixels * 8 * 8
    assert rows["head"].macs == 80
    assert summary.macs == pixels * 216 + 2 * pixels * 64 + 80
    assert [rows[path].params for path in ("stem", "twice", "head", "spare")] == [216, 72, 90, 72]
    assert summary.params == 216 + 72 + 90 + 72
    assert rows["stem"].outputs == ((1, 8, 16, 12),)
    assert rows["stem"].activation_bytes == 8 * pixels * 4
    assert rows["twice"].activation_bytes == 2 * 8 * pixels * 4  # ReLU works in place and gives nothing new
    assert rows["twice.1"].activation_bytes == 0
    assert (rows["spare"].outputs, rows["spare"].macs) == ((), 0)
    assert summary.activation_bytes == 3 * 8 * pixels * 4 + 40
    assert summary.parameter_bytes == 4 * summary.params
    assert [row.depth for row in summary.rows if row.path == "twice.1"] == [2]


@pytest.mark.parametrize(
    ("name", "options"),
    [("timm/resnet18", {}), ("timm/vit_tiny_patch16_224", {}), ("timm/swin_tiny_patch4_window7_224", {})],
)
def test_figures_are_those_of_independent_counts(name: str, options: dict[str, Any]) -> None:
    model = zoo.create(name, device="meta", **options)
    summary = summarize(model)
    assert summary.macs == multiply_accumulates(model, model.input_spec) > 1e9
    assert summary.params == sum(p.numel() for p in model.parameters()) == zoo.info(name).model.params
    parts = [row for row in summary.rows if row.depth == 2]
    assert sum(row.params for row in parts) + _own(model.encoder) == summary.params
    assert sum(row.macs for row in parts) == summary.macs
    assert summary.outputs[-1] == (1, 1000)


def _own(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters(recurse=False))


def test_a_layers_shape_is_what_it_gives() -> None:
    model = VisionTransformer(image_size=64, width=24, depth=2, heads=2, num_classes=5).eval()
    rows = {row.path: row for row in summarize(model).rows}
    found: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(lambda m, a, out, p=path: found.setdefault(p, out) if p else None)
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64))
    assert len(found) > 20
    for path, output in found.items():
        assert rows[path].outputs == (tuple(output.shape),)


def test_a_backbone_and_another_size() -> None:
    backbone = zoo.create("timm/resnet18", features_only=True, device="meta")
    summary = summarize(backbone, image_size=(64, 96))
    assert summary.input == (1, 3, 64, 96)
    assert [shape[1:] for shape in summary.outputs][-1] == (512, 2, 3)
    assert summarize(backbone, image_size=64).input == (1, 3, 64, 64)


def test_nothing_of_the_model_changes() -> None:
    model = TinyNet().train()
    model.stem.requires_grad_(False)
    weights = model.stem.weight
    summary = summarize(model)
    assert model.stem.weight is weights
    assert weights.device.type == "cpu"
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert summary.trainable == summary.params - 216
    assert "(216 of them frozen)" in str(summary)


def test_a_summary_reads_as_a_table_and_as_data() -> None:
    summary = summarize(TinyNet())
    lines = str(summary).splitlines()
    assert lines[0].split() == ["LAYER", "KIND", "OUTPUT", "PARAMS", "MACS", "ACTIVATIONS"]
    assert lines[1].split() == ["stem", "Conv2d", "8", "x", "16", "x", "12", "216", "0.04", "M", "0.01", "MB"]
    assert len({len(line) for line in lines[: len(summary.rows) + 1]}) == 1
    assert summary.to_dict()["rows"][0]["path"] == "stem"
    assert [row.path for row in summary.down_to(1)] == ["stem", "twice", "head", "spare"]


def test_what_cannot_be_summarised_says_why() -> None:
    with pytest.raises(zoo.UnsupportedError, match="no zoo model"):
        summarize(nn.Linear(2, 2))  # type: ignore[arg-type]  # it is the point of the test
    model = VisionTransformer(image_size=64, width=24, depth=1, heads=2, num_classes=5)
    with pytest.raises(zoo.InputError):
        summarize(model, image_size=65)

    class Curious(TinyNet):
        def forward(self, images: Tensor, targets: Any = None) -> dict[str, Any]:
            return super().forward(images) if float(images.sum()) > 0 else {}

    with pytest.raises(zoo.InputError, match="without their values"):
        summarize(Curious())


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "ssd300"])
def test_a_detector_is_summarised_up_to_where_boxes_are_chosen(name: str) -> None:
    with torch.device("meta"):
        model = zoo.create(name, backbone="resnet18", num_classes=2, img_size=320)
    summary = summarize(model)
    assert summary.macs == multiply_accumulates(model, model.input_spec) > 1e9
    assert {"backbone", "neck"} <= {row.path for row in summary.down_to(1) if row.macs}
