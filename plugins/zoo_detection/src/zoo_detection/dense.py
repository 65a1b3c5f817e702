"""One-stage detectors: every cell of every map says what is there, and the best of it stays.

images (B, C, H, W) -> backbone and neck: L maps -> head: for N anchors of all maps class logits (B, N, K) and codes of
boxes (B, N, 4) -> scores above a threshold, the best of each level -> boxes -> suppression -> the best of each image

The network is a backbone, a neck and a head, each a name, a config or a module. The head is what families differ in:
`zoo_detection.retinanet.DetectionHead` corrects anchors, `zoo_detection.fcos.FCOSHead` needs none.

B batch   C channels   H W the padded images' sides   L levels   N anchors of all levels   K classes   M candidates
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from zoo.checkpoints.keymap import Rule, StateMap
from zoo.errors import OptionError
from zoo.models.config import ModelConfig
from zoo.models.detector import Selection, whole_sizes
from zoo.models.model import Head
from zoo.models.parts import Part, build_head
from zoo.models.targets import Target, check_targets
from zoo_detection.boxes import clip_boxes
from zoo_detection.nms import best_of_groups, keep_best, pad_detections
from zoo_detection.object_embeddings import object_embeddings
from zoo_detection.pyramid import Plan, PyramidDetector, PyramidDetectorConfig, whole_cells
from zoo_detection.torchvision_keys import torchvision_keys

PRIOR = 0.01
"""What every class scores at first: most anchors show nothing. Lin et al. 2017, arXiv:1708.02002, 3.3."""


class DenseDetectorConfig(PyramidDetectorConfig):
    """What every one-stage detector on a pyramid may be told."""

    head: Part = Field("detection_head", description="a registered head's name, a mapping with options, or a module")
    topk: int = Field(1000, ge=1, description="candidates of each level and image that suppression sees")


class DenseDetector(PyramidDetector):
    """A pyramid of five maps from stride 8 on, and a head that looks at each. A family says which, in its `Config`.

    `raw` is what the head gives: `logits` (B, N, K), `boxes` (B, N, 4) and what else it has, anchors level by level,
    row by row. `embeddings` (B, K, D) are averages over the box on the map for its size.

    Attributes:
        head: its number of classes is the detector's.
    """

    Config = DenseDetectorConfig
    config: DenseDetectorConfig

    def __init__(self, config: DenseDetectorConfig) -> None:
        super().__init__(config)
        self.head = _dense(build_head(config.head, num_classes=config.num_classes))
        if "num_classes" in config.model_fields_set and config.num_classes != self.head.num_classes:
            raise OptionError(
                f"the head has {self.head.num_classes} classes, and {config.num_classes} are asked for",
                asked=f"num_classes={config.num_classes}",
                fix=f"a head with num_classes={config.num_classes}, and `num_classes` there alone",
            )
        self.head.bind(self.channels, self.strides)
        self.config = config.replace(num_classes=self.head.num_classes)
        self._divisor = self.input_spec.divisor
        self.report_parts()

    @classmethod
    def plan(cls, config: DenseDetectorConfig) -> Plan:
        return Plan(min_stride=8, levels=5, extra="conv")

    def key_maps(self) -> Mapping[str, StateMap]:
        return torchvision_keys(self.backbone, *self.head.published(), frozen=self.config.freeze_norm)

    def reset_head(self, num_classes: int) -> None:
        """Fresh logits for other classes; towers and boxes stay."""
        head: Any = self.config.head if isinstance(self.config.head, str) else self.head
        config = self.config.replace(num_classes=num_classes, head=head)
        self.head.reset_classes(config.num_classes)
        self.config, self.label_space = config, None

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Target] | None = None,
        *,
        sizes: Tensor | None = None,
        selection: Selection | None = None,
        output_raw: bool = False,
        output_embeddings: bool = False,
    ) -> dict[str, Any]:
        sizes = whole_sizes(images, sizes)
        if targets is not None:
            targets = self.checked(targets, images, sizes)
        images = whole_cells(images, self._divisor)
        maps = self.maps(images)
        raw, anchors = self.head(maps), self.head.anchors(images, maps)
        outputs: dict[str, Any]
        if targets is not None:
            outputs = self.losses(raw, anchors, targets)
        else:
            outputs = self.detections(raw, anchors, sizes, selection or self.selection)
            if output_embeddings:
                outputs["embeddings"] = object_embeddings(maps, self.strides, outputs["boxes"], outputs["labels"])
        return {**outputs, "raw": raw} if output_raw else outputs

    def network(self, images: Tensor) -> dict[str, Tensor]:
        """What the head says, before boxes are chosen."""
        raw: dict[str, Tensor] = self.head(self.maps(whole_cells(images, self._divisor)))
        return raw

    def checked(self, targets: Sequence[Target], images: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """The targets, if the images can have them. Raises `InputError` that names the image and the object."""
        return check_targets(targets, images, sizes, num_classes=self.num_classes, labels=self.label_space)

    def losses(
        self, raw: Mapping[str, Tensor], anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """The head's losses by name, and `loss`, their sum."""
        losses = self.head.losses(raw, anchors, targets)
        return {**losses, "loss": torch.stack(list(losses.values())).sum()}

    def detections(
        self, raw: Mapping[str, Tensor], anchors: Sequence[Tensor], sizes: Tensor, selection: Selection
    ) -> dict[str, Tensor]:
        """What the head said, `raw`, as the best boxes of each image; anchors level by level, sizes (B, 2)."""
        boxes, found = self.chosen(raw, torch.cat(list(anchors)), [len(a) for a in anchors], sizes, selection)
        padded = pad_detections(
            boxes, found.scores, found.labels, found.images, sizes.shape[0], selection.max_detections
        )
        return dict(zip(("boxes", "scores", "labels"), padded[:3], strict=True))

    def chosen(
        self,
        raw: Mapping[str, Tensor],
        anchors: Tensor,
        per_level: Sequence[int],
        sizes: Tensor,
        selection: Selection,
    ) -> tuple[Tensor, Candidates]:
        """The boxes (M, 4), clipped to their images, that suppression leaves of a whole batch, and what is in them."""
        found = self._above(self.head.scores(raw), per_level, selection)
        boxes = self.head.decode(raw["boxes"][found.images, found.anchors], anchors[found.anchors])
        boxes = clip_boxes(boxes, sizes[found.images])
        groups = found.images * self.num_classes + found.labels
        kept = keep_best(boxes, found.scores, groups, selection.nms_threshold)
        return boxes[kept], found.at(kept)

    def _above(self, scores: Tensor, per_level: Sequence[int], selection: Selection) -> Candidates:
        """Of the scores (B, N, K) above the threshold, of the classes looked for, the best of each level and image.

        What is not a number counts as above: it is to be refused, and not to look like an empty image.
        """
        looked_for = selection.classes
        labels = torch.arange(scores.shape[2], device=scores.device)
        if looked_for is not None:
            labels = torch.tensor(looked_for, dtype=torch.int64, device=scores.device)
            scores = scores[..., labels]
        batch_size, anchors, classes = scores.shape
        flat = scores.flatten()
        places = (~(flat <= selection.score_threshold)).nonzero()[:, 0]  # image by image, level by level
        first = torch.arange(batch_size, device=scores.device)[:, None] * anchors
        ends = (first + torch.tensor(per_level, device=scores.device).cumsum(0)).flatten() * classes
        places = places[_best_of_runs(flat[places], places, ends, self.config.topk)]
        rows = places // classes
        return Candidates(rows // anchors, rows % anchors, labels[places % classes], flat[places])


class Candidates(NamedTuple):
    """What might be objects, flat over a batch: `images`, `anchors` and `labels`, each (M,) int64, and `scores` (M,).

    images: place in the batch. anchors: 0..N-1. labels: outputs of the head. scores: in [0, 1].
    """

    images: Tensor
    anchors: Tensor
    labels: Tensor
    scores: Tensor

    def at(self, places: Tensor) -> Candidates:
        """Those at these places (n,), in that order."""
        return Candidates(*(values[places] for values in self))


class DenseHeadConfig(ModelConfig):
    """What every head of a one-stage detector may be told."""

    num_classes: int = Field(80, ge=1, le=100_000, description="classes, a background not among them")
    depth: int = Field(4, ge=0, le=64, description="3x3 convolutions before the last one, for classes and for boxes")


class DenseHead(Head):
    """Interface of heads of one-stage detectors.

    `forward` takes L maps (B, D, h, w) of one width and gives `logits` (B, N, K), `boxes` (B, N, 4) in codes of its
    own, and what else `candidates` and `losses` need.
    """

    architecture: ClassVar[str] = "detection/retinanet"
    Config = DenseHeadConfig
    config: DenseHeadConfig

    @property
    def num_classes(self) -> int:
        """Classes it tells apart, a background not among them."""
        return self.config.num_classes

    def anchors(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """For each map (B, D, h, w) its anchors (h * w * A, 4), xyxy in pixels of the batch (B, C, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} does not say where it looks: define anchors()")

    def scores(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Scores (B, N, K) in [0, 1], at least float32, of what `forward` gave."""
        raise NotImplementedError(f"{type(self).__name__} does not say how sure it is: define scores()")

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (M, 4), xyxy, from codes (M, 4) and anchors (M, 4)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its codes mean: define decode()")

    def losses(
        self, raw: Mapping[str, Tensor], anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Scalars by name, `loss_…`, of what `forward` gave, for checked targets; anchors level by level."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it learns: define losses()")

    def reset_classes(self, num_classes: int) -> None:
        """A freshly initialised last convolution for other classes, on the device and of the dtype of the last one."""
        raise NotImplementedError(f"{type(self).__name__} has no classes to reset: define reset_classes()")

    def published(self) -> Sequence[Rule]:
        """How torchvision's files name its tensors, if they hold such a head."""
        return ()


def tower(channels: int, depth: int, norm: bool, *, bias: bool) -> nn.Sequential:
    """`depth` blocks of a 3x3 convolution, group norm or none, and a ReLU."""
    groups = math.gcd(32, channels)  # torchvision has 32, and 256 channels
    groups = max(1, groups // 2) if groups == channels else groups  # one value has no deviation
    layer = partial(nn.GroupNorm, groups) if norm else None
    return nn.Sequential(
        *(Conv2dNormActivation(channels, channels, norm_layer=layer, bias=bias) for _ in range(depth))
    ).apply(start)


def predictor(channels: int, values: int, *, bias: float = 0.0) -> nn.Conv2d:
    """A 3x3 convolution that gives `values` numbers a cell, `bias` at first."""
    conv = nn.Conv2d(channels, values, 3, padding=1)
    start(conv)
    nn.init.constant_(conv.bias, bias)
    return conv


def class_predictor(channels: int, values: int, like: nn.Conv2d | None = None) -> nn.Conv2d:
    """A `predictor` of logits that says `PRIOR` at first, on the device and of the dtype of the one it replaces."""
    conv = predictor(channels, values, bias=-math.log((1 - PRIOR) / PRIOR))
    return conv if like is None else conv.to(like.weight.device, like.weight.dtype)


def start(module: nn.Module) -> None:
    """Convolutions as the paper starts them: normal with deviation 0.01, biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def by_anchor(values: Tensor, anchors: int) -> Tensor:
    """A map's predictions (B, A * V, h, w) as rows (B, h * w * A, V)."""
    return values.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def one_width(head: DenseHead, channels: Sequence[int]) -> int:
    """The channels that all maps have. Raises `OptionError` where they differ, or the head is bound already."""
    name = type(head).__name__
    if next(head.children(), None) is not None:
        raise OptionError(f"this {name} is bound to maps already", fix=f"{name}(…), one for every model")
    if len(set(channels)) != 1:
        raise OptionError(
            f"a {name} looks at all maps with the same weights, and these differ in channels",
            found=str(tuple(channels)),
            fix=f'zoo.create("{head.architecture}", neck="fpn", …), or another neck that gives one width',
        )
    return channels[0]


def _best_of_runs(scores: Tensor, places: Tensor, ends: Tensor, most: int) -> Tensor:
    """Indices (n,) int64 of the `most` best of each run of scores (M,): run r is at places (M,), ascending, that are
    below ends[r] and in no earlier run."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        runs = (places[:, None] >= ends).sum(dim=1)
        return best_of_groups(scores, runs, ends.shape[0], most)
    # Hundreds of thousands may score above a low threshold, and are not to be sorted.
    cuts = [0, *torch.searchsorted(places, ends).tolist()]
    best = [scores[start:end].topk(min(most, end - start)).indices + start for start, end in pairwise(cuts)]
    return torch.cat(best)


def _dense(head: Head) -> DenseHead:
    if isinstance(head, DenseHead):
        return head
    raise OptionError(
        f"a {type(head).__name__} is not the head of a one-stage detector",
        fix='head="detection_head", head="fcos_head", or a subclass of zoo_detection.DenseHead',
    )
