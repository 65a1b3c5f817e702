"""torchvision's R-CNNs with random weights that say something: frozen norms with statistics, scores that spread.

The published files of the first versions hold frozen batch norms, whose epsilon torchvision sets to 0 when it loads
them; built without weights it has trainable ones instead. So the oracle is put together here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, resnet18, resnet50
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

SHORT, LONG = 96, 160

# How far apart what a predictor says is to be: module, standard deviation of its output.
SPREADS = (
    ("rpn.head.cls_logits", 2.0),
    ("rpn.head.bbox_pred", 0.3),
    ("roi_heads.box_predictor.cls_score", 1.5),
    ("roi_heads.box_predictor.bbox_pred", 1.0),
    ("roi_heads.mask_predictor.mask_fcn_logits", 2.0),
    ("roi_heads.keypoint_predictor.kps_score_lowres", 2.0),
)

# The names of losses there, and ours.
LOSSES = {
    "loss_objectness": "loss_objectness",
    "loss_rpn_box_reg": "loss_rpn_boxes",
    "loss_classifier": "loss_classification",
    "loss_box_reg": "loss_boxes",
    "loss_mask": "loss_masks",
    "loss_keypoint": "loss_keypoints",
}


# Fewer regions than usual, so that a case takes seconds: as torchvision's constructors say it, and as our configs do.
FEW = {
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_test": 40,
    "rpn_pre_nms_top_n_train": 60,
    "rpn_post_nms_top_n_train": 60,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 16,
    "box_detections_per_img": 5,
}
OUR_FEW = {
    "proposals_per_level": 100,
    "proposals": 40,
    "training_proposals": 60,
    "rpn_samples": 64,
    "box_samples": 16,
    "max_detections": 5,
}


class Case(NamedTuple):
    """An oracle and the row of ours that is to be it."""

    oracle: Callable[..., nn.Module]
    row: str
    classes: int
    options: dict[str, Any]


def frozen(
    family: type[FasterRCNN], classes: int, *, body: Callable[..., nn.Module] = resnet18, eps: float = 0.0, **more: Any
) -> nn.Module:
    """A first version as its published file is opened: `classes` without background."""
    pyramid = _resnet_fpn_extractor(body(weights=None, norm_layer=FrozenBatchNorm2d), 5)
    model = family(pyramid, classes + 1, **more)
    overwrite_eps(model, eps)
    return model


def second(family: type[FasterRCNN], classes: int, *, body: Callable[..., nn.Module] = resnet18, **more: Any) -> Any:
    """A second version: batch norm that learns, two convolutions in the RPN, four in the box head."""
    pyramid = _resnet_fpn_extractor(body(weights=None), 5, norm_layer=nn.BatchNorm2d)
    if family is MaskRCNN:
        more["mask_head"] = MaskRCNNHeads(256, [256] * 4, 1, norm_layer=nn.BatchNorm2d)
    box_head = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
    return family(pyramid, classes + 1, rpn_head=RPNHead(256, 3, conv_depth=2), box_head=box_head, **more)


def mobile(classes: int, **more: Any) -> nn.Module:
    """On MobileNetV3-Large, with frozen norms."""
    pyramid = _mobilenet_extractor(mobilenet_v3_large(weights=None, norm_layer=FrozenBatchNorm2d), True, 6)
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return FasterRCNN(pyramid, classes + 1, rpn_anchor_generator=anchors, rpn_score_thresh=0.05, **more)


_R18 = {"backbone": "resnet18"}
_FROZEN = {**_R18, "freeze_norm": True, "norm_eps": 0.0}
CASES = {
    "faster": Case(partial(frozen, FasterRCNN), "faster_rcnn_r50_fpn", 4, _FROZEN),
    "mask": Case(partial(frozen, MaskRCNN), "mask_rcnn_r50_fpn", 4, _FROZEN),
    "mask_v2": Case(partial(second, MaskRCNN), "mask_rcnn_r50_fpn_v2", 4, _R18),
    "keypoint": Case(partial(frozen, KeypointRCNN), "keypoint_rcnn_r50_fpn", 1, _FROZEN),
    "mobile": Case(mobile, "faster_rcnn_mobilenetv3_large_fpn", 4, {}),
}

_50 = {"body": resnet50}
PUBLISHED = {
    "faster_rcnn_r50_fpn": Case(partial(frozen, FasterRCNN, **_50), "faster_rcnn_r50_fpn", 90, {}),
    "faster_rcnn_r50_fpn_v2": Case(partial(second, FasterRCNN, **_50), "faster_rcnn_r50_fpn_v2", 90, {}),
    "faster_rcnn_mobilenetv3_large_fpn": Case(mobile, "faster_rcnn_mobilenetv3_large_fpn", 90, {}),
    "faster_rcnn_mobilenetv3_large_320_fpn": Case(mobile, "faster_rcnn_mobilenetv3_large_320_fpn", 90, {}),
    "mask_rcnn_r50_fpn": Case(partial(frozen, MaskRCNN, **_50), "mask_rcnn_r50_fpn", 90, {}),
    "mask_rcnn_r50_fpn_v2": Case(partial(second, MaskRCNN, **_50), "mask_rcnn_r50_fpn_v2", 90, {}),
    "keypoint_rcnn_r50_fpn": Case(partial(frozen, KeypointRCNN, **_50), "keypoint_rcnn_r50_fpn", 1, {}),
    "keypoint_rcnn_r50_fpn.coco_legacy": Case(
        partial(frozen, KeypointRCNN, eps=1e-5, **_50), "keypoint_rcnn_r50_fpn.coco_legacy", 1, {}
    ),
}
"""The rows as they are, and what torchvision builds for their files."""


def older(name: str) -> str:
    """A published name as files from before torchvision 0.13 have it."""
    name = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
    name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return re.sub(r"mask_head\.(\d)\.0\.", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}.", name)


def awake(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, with statistics in its norms and predictors scaled to `SPREADS`."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            count = module.weight.shape
            module.running_mean.copy_(torch.randn(count, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(count, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(count, generator=generator) * 0.4 + 0.5)
            module.bias.data.copy_(torch.randn(count, generator=generator) * 0.1)
    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(_spread(by)) for name, by in SPREADS if name in modules]
    with torch.no_grad():
        model.eval()(pictures((SHORT, LONG), seed=seed))
    for hook in hooks:
        hook.remove()
    return model


def _spread(deviation: float) -> Callable[..., Tensor | None]:
    """A hook that scales and shifts every output of a linear layer or convolution, so that what it says first is 0 on
    average and as far apart as `deviation`."""
    done = set()

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if module in done:
            return None
        done.add(module)
        values = output.transpose(0, 1).flatten(1)  # (outputs, how often)
        scale = deviation / values.std(dim=1).clamp(min=1e-6)
        by_output = (1, -1) if isinstance(module, nn.ConvTranspose2d) else (-1,)
        module.weight.mul_(scale.view(*by_output, *(1,) * (module.weight.ndim - len(by_output))))
        module.bias.copy_((module.bias - values.mean(dim=1)) * scale)
        return module.forward(*inputs)

    return hook


def pictures(*sizes: tuple[int, int], seed: int = 1) -> list[Tensor]:
    """Images (3, H, W) in [0, 1] of smooth blobs, which look different to a network."""
    generator = torch.Generator().manual_seed(seed)
    return [
        nn.functional.interpolate(
            torch.rand(1, 3, height // 16 + 1, width // 16 + 1, generator=generator),
            size=(height, width),
            mode="bicubic",
        )[0].clamp(0, 1)
        for height, width in sizes
    ]


def objects(images: Sequence[Tensor], classes: int, seed: int = 2) -> list[dict[str, Tensor]]:
    """A target for each image, in torchvision's labels: boxes, masks and 17 keypoints; none for the last image."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for number, image in enumerate(images):
        height, width = image.shape[1:]
        count = 3 if number + 1 < len(images) else 0
        size = torch.tensor([width, height], dtype=torch.float32)
        start = torch.rand(count, 2, generator=generator) * size * 0.4
        end = torch.minimum(start + size * (0.2 + 0.5 * torch.rand(count, 2, generator=generator)), size)
        end[:1] = size  # an object at the image's edge
        masks = torch.rand(count, height, width, generator=generator) > 0.4
        points = start[:, None] + (end - start)[:, None] * torch.rand(count, 17, 2, generator=generator)
        visible = (torch.rand(count, 17, 1, generator=generator) > 0.3).float()
        targets.append(
            {
                "boxes": torch.cat((start, end), dim=1),
                "labels": torch.randint(1, classes + 1, (count,), generator=generator),
                "masks": masks.to(torch.uint8),
                "keypoints": torch.cat((points, visible), dim=-1),
            }
        )
    return targets
