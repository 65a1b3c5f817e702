"""Detectors on the CPU against torchvision's own, on the same weights and the same prepared images."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measuring import Table, in_turns, shown_ratio, shown_seconds

if TYPE_CHECKING:
    from torch import Tensor, nn

MODELS = (
    # ours, torchvision's builder, the sides of the two images
    ("faster_rcnn_r50_fpn", "fasterrcnn_resnet50_fpn", ((320, 448), (288, 448))),
    ("faster_rcnn_r50_fpn_v2", "fasterrcnn_resnet50_fpn_v2", ((320, 448), (288, 448))),
    ("faster_rcnn_mobilenetv3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn", ((320, 448), (288, 448))),
    ("mask_rcnn_r50_fpn", "maskrcnn_resnet50_fpn", ((320, 448), (288, 448))),
    ("keypoint_rcnn_r50_fpn", "keypointrcnn_resnet50_fpn", ((320, 448), (288, 448))),
    ("retinanet_r50_fpn", "retinanet_resnet50_fpn", ((320, 448), (288, 448))),
    ("fcos_r50_fpn", "fcos_resnet50_fpn", ((320, 448), (288, 448))),
    ("ssd300", "ssd300_vgg16", ((300, 300), (300, 300))),
    ("ssdlite320", "ssdlite320_mobilenet_v3_large", ((320, 320), (320, 320))),
)
FROZEN = ("faster_rcnn_r50_fpn", "mask_rcnn_r50_fpn", "keypoint_rcnn_r50_fpn", "retinanet_r50_fpn", "fcos_r50_fpn")
"""Published with batch norms that are frozen."""


def detection(quick: bool) -> list[Table]:
    """Seconds a batch and its ratio to torchvision's, the largest difference, and the share of choosing boxes."""
    rows = [_row(*model, rounds=2 if quick else 7) for model in MODELS]
    return [
        Table(
            "Detectors on the CPU",
            "float32, two images of unequal sizes, prepared beforehand, so that both sides compute from the network's "
            "input to boxes, masks and points in its pixels; the same random weights on both sides, in turns; median "
            "of the rounds. Above 1 the zoo is faster. Budget: ≥ 1.0 x at equal outputs. The last column is the part "
            "of the zoo's time that is no network, where that stands apart: choosing boxes.",
            ("model", "zoo, a batch of two", "÷ torchvision", "boxes found", "largest difference", "choosing boxes"),
            rows,
        )
    ]


SPREAD_OF_PROBABILITIES, SPREAD_OF_CLASSES = 0.6, 1.5
"""Standard deviations of the logits of sigmoids, whose biases are far below 0, and of softmaxes: about a hundredth of
the first then reaches its threshold, and a few classes of each region of the second."""


class Pair(NamedTuple):
    """The two sides, with the same weights, and a batch that both take."""

    zoo: nn.Module
    torchvision: nn.Module
    images: Tensor
    sizes: Tensor


def _row(ours: str, theirs: str, sides: tuple[tuple[int, int], ...], rounds: int) -> tuple[str, ...]:
    import torch

    pair = _pair(ours, theirs, sides)
    with torch.inference_mode():
        found, theirs_found = pair.zoo(pair.images, sizes=pair.sizes), pair.torchvision(list(pair.images))
        count = sum(len(one["boxes"]) for one in theirs_found)
        difference = _difference(found, theirs_found)
        competitors = {
            "zoo": _timed(lambda: pair.zoo(pair.images, sizes=pair.sizes)),
            "torchvision": _timed(lambda: pair.torchvision(list(pair.images))),
            "network": _timed(lambda: pair.zoo.network(pair.images)),
        }
        taken = in_turns(competitors, rounds)
    # Neighbours in time see the same machine, so the ratio is taken round by round.
    ratio = median(t / z for z, t in zip(taken["zoo"], taken["torchvision"], strict=True))
    share = median(1 - n / z for z, n in zip(taken["zoo"], taken["network"], strict=True))
    # A second stage computes on boxes that the first one chose: what is network in it does not stand apart.
    shown = f"{max(share, 0):.0%}" if ours.startswith(("retinanet", "fcos", "ssd")) else "-"
    seconds = shown_seconds(median(taken["zoo"]))
    return (f"`{ours}`", seconds, shown_ratio(ratio), str(count), f"{difference:.0e}", shown)


def _difference(found: dict[str, Tensor], theirs: list[dict[str, Tensor]]) -> float:
    """How far, in pixels, a box of torchvision's may be from the nearest of the zoo's; equal scores have no order."""
    import torch

    distances = [
        torch.cdist(one["boxes"], boxes, p=torch.inf).amin(dim=1).max().item()
        for boxes, one in zip(found["boxes"], theirs, strict=True)
        if len(one["boxes"])
    ]
    return max(distances, default=0.0)


def _pair(ours: str, theirs: str, sides: tuple[tuple[int, int], ...]) -> Pair:
    """Both models, torchvision's random weights in ours through the published names."""
    import torch
    from torchvision.models import detection as published
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.ops import FrozenBatchNorm2d

    import zoo
    from zoo.build.weights import load_weights
    from zoo.models.preprocessing import pad_batch

    torch.manual_seed(0)
    reference = getattr(published, theirs)(weights=None, weights_backbone=None).eval()
    frozen = ours in FROZEN  # published so, and built so by torchvision when it loads what it published
    for name, module in list(reference.backbone.named_modules()) if frozen else []:
        if isinstance(module, torch.nn.BatchNorm2d):
            owner, _, leaf = name.rpartition(".")
            setattr(reference.backbone.get_submodule(owner), leaf, FrozenBatchNorm2d(module.num_features))
    if frozen:
        overwrite_eps(reference, 0.0)
    images = [torch.rand(3, *side) for side in sides]
    _enliven(reference, images)
    model = zoo.create(ours, **({"freeze_norm": True, "norm_eps": 0.0} if frozen else {}))
    load_weights(model, reference.state_dict(), format="torchvision", source="torchvision")
    del reference.transform  # it is a module, what takes its place is none
    object.__setattr__(reference, "transform", _Prepared(sides))
    return Pair(model.eval(), reference, pad_batch(images), torch.tensor(sides))


def _enliven(model: nn.Module, images: list[Tensor]) -> None:
    """Class scores that differ, as those of a trained model do: of fresh ones none reaches a threshold, or all tie."""
    import torch

    heads = {
        module: SPREAD_OF_PROBABILITIES if "cls_logits" in name else SPREAD_OF_CLASSES
        for name, module in model.named_modules()
        if ("cls_" in name or "classification_head.module_list" in name)
        and isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        and module.weight[0].numel() > 9  # a depthwise convolution is on the way to one that says something
    }
    said: dict[nn.Module, Tensor] = {}
    hooks = [head.register_forward_hook(lambda head, _, out: said.update({head: out.std()})) for head in heads]
    with torch.no_grad():
        model(images)
        for head, spread in heads.items():
            head.weight.mul_(spread / said[head])
    for hook in hooks:
        hook.remove()


class _Prepared:
    """In place of torchvision's transform, for images that are prepared already."""

    def __init__(self, sides: tuple[tuple[int, int], ...]) -> None:
        self.sides = list(sides)

    def __call__(self, images: list[Tensor], targets: None) -> tuple[Any, None]:
        """(B images (C, H, W), None) → what torchvision calls an ImageList, None."""
        import torch
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), self.sides), targets

    @staticmethod
    def postprocess(found: list[dict[str, Tensor]], *sizes: object) -> list[dict[str, Tensor]]:
        """Boxes stay in the network's pixels, as ours do."""
        return found


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return timed
