"""A backbone and a neck under every detector here: one list of maps, fine to coarse.

images (B, C, H, W) -> backbone's maps of stride >= min_stride -> neck -> L maps (B, D, H / s_l, W / s_l)

B batch   C channels   H W the padded batch's sides   L levels   D width of every map
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.checkpoints.keymap import Drop, KeyMap, StateMap
from zoo.errors import OptionError
from zoo.models.config import ModelConfig
from zoo.models.detector import Detector, DetectorConfig, Pixels
from zoo.models.load_report import report_of_parts
from zoo.models.model import Backbone, Neck
from zoo.models.parts import OF_THE_WEIGHTS, Part, build_backbone, build_neck
from zoo.specs import InputSpec
from zoo_detection.torchvision_keys import torchvision_keys

IMAGE_SIZE = (800, 1333)
"""The shorter side of an image, and the most that the longer one may have: what COCO's detectors are compared at."""

DIVISOR = 32
"""Sides of a batch are multiples of it, or else of what the backbone takes: patches of 14 stay patches of 14."""

Extra = Literal["pool", "conv", "conv_input"]


class Plan(NamedTuple):
    """Which maps: from which stride of the backbone's on, how many from the neck, and how it makes further ones."""

    min_stride: int
    levels: int
    extra: Extra = "pool"


class PyramidConfig(ModelConfig):
    """Config of `Pyramid`."""

    backbone: Part = Field("resnet50", description="a registered backbone's name, a mapping with options, or a module")
    neck: Part | None = Field(
        None, description="a registered neck's; None: fpn, or simple_pyramid where the backbone has one stride"
    )
    in_chans: int = Field(3, ge=1, le=4096, description="channels of the image, for a backbone given by name")
    image_size: Pixels | tuple[Pixels, Pixels] | None = Field(None, description="the shorter and the longer side")
    freeze_norm: bool = Field(False, description="the backbone's batch norms neither learn nor count, training or not")
    norm_eps: float | None = Field(
        None, ge=0, lt=1, description="of the backbone's batch norms; None: the backbone's own"
    )
    min_stride: int = Field(4, ge=1, description="of the finest map that the neck is given")
    levels: int = Field(5, ge=1, le=16, description="maps that the neck gives")
    extra: Extra = Field("pool", description="how a neck that can be told makes maps beyond the backbone's")
    out_indices: tuple[int, ...] | None = Field(None, description="which of the neck's maps to give; None: all")


class Pyramid(Backbone):
    """A detector's backbone and neck, as a backbone of its own.

    Attributes:
        backbone: gives the maps. neck: mixes them. chosen: which of the backbone's maps it is given.
    """

    Config = PyramidConfig
    config: PyramidConfig

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__(config)
        self.backbone = _sized_backbone(config)
        strides = self.backbone.strides
        # Of maps that are all finer the coarsest is taken: a neck says for itself whether it can do with that.
        self.chosen = tuple(i for i, s in enumerate(strides) if s >= config.min_stride) or (len(strides) - 1,)
        default = "fpn" if len({strides[i] for i in self.chosen}) > 1 else "simple_pyramid"
        wanted = {"levels": config.levels, "extra": config.extra, "finest_stride": config.min_stride}
        self.neck: Neck = build_neck(config.neck or default, **wanted)
        self.neck.bind([self.backbone.channels[i] for i in self.chosen], [strides[i] for i in self.chosen])
        self._given = _given(config.out_indices, len(self.neck.channels))
        self.channels = tuple(self.neck.channels[i] for i in self._given)
        self.strides = tuple(self.neck.strides[i] for i in self._given)
        self.input_spec = fitted_input(self.backbone.input_spec, config.image_size)
        self.load_report = report_of_parts(self.state_dict(), {"backbone": self.backbone, "neck": self.neck})
        self.provenance = self.backbone.provenance
        set_norms(self.backbone, config.norm_eps, frozen=config.freeze_norm)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        pyramid: list[Tensor] = self.neck([maps[i] for i in self.chosen])
        return [pyramid[i] for i in self._given]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        keep_frozen(self.backbone, self.config.freeze_norm)
        return self

    def key_maps(self) -> Mapping[str, StateMap]:
        # A whole detector's file serves its pyramid, too.
        heads = Drop(r"(?!backbone\.|neck\.).+", "of the detector's heads")
        return {"native": KeyMap(heads), **torchvision_keys(self.backbone, heads, frozen=self.config.freeze_norm)}


class PyramidDetectorConfig(DetectorConfig):
    """What every detector on a pyramid may be told."""

    backbone: Part = Field("resnet50", description="a registered backbone's name, a mapping with options, or a module")
    neck: Part | None = Field(
        None, description="a registered neck's; None: fpn, or simple_pyramid where the backbone has one stride"
    )
    freeze_norm: bool = Field(False, description="the backbone's batch norms neither learn nor count, training or not")
    norm_eps: float | None = Field(
        None, ge=0, lt=1, description="of the backbone's batch norms; None: the backbone's own"
    )


class PyramidDetector(Detector):
    """Interface of detectors that look at a `Pyramid`. A family says which: `plan`.

    Attributes:
        backbone, neck: as in `Pyramid`, under the same state-dict names.
        strides: of the maps.
    """

    Config = PyramidDetectorConfig
    config: PyramidDetectorConfig

    def __init__(self, config: PyramidDetectorConfig) -> None:
        super().__init__(config)
        pyramid = Pyramid(self._pyramid_config(config))
        self.backbone, self.neck, self._chosen = pyramid.backbone, pyramid.neck, pyramid.chosen
        self.channels, self.strides = pyramid.channels, pyramid.strides
        self.input_spec = pyramid.input_spec

    def maps(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) → the pyramid's maps, fine to coarse."""
        maps = self.backbone(images)
        pyramid: list[Tensor] = self.neck([maps[i] for i in self._chosen])
        return pyramid

    def report_parts(self) -> None:
        """Say which parts came with weights of their own. The last thing a family does when it is built."""
        self.load_report = report_of_parts(self.state_dict(), {"backbone": self.backbone, "neck": self.neck})
        self.provenance = self.backbone.provenance

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        keep_frozen(self.backbone, self.config.freeze_norm)
        return self

    @classmethod
    def as_backbone(cls, config: PyramidDetectorConfig, out_indices: Sequence[int] | None = None) -> Backbone:
        """The pyramid on its own, under the same state-dict names less the heads'."""
        return Pyramid(cls._pyramid_config(config).replace(out_indices=out_indices))

    @classmethod
    def plan(cls, config: Any) -> Plan:
        """Which maps a detector of that configuration looks at."""
        raise NotImplementedError(f"{cls.__name__} does not say which maps it looks at: define plan()")

    @classmethod
    def _pyramid_config(cls, config: PyramidDetectorConfig) -> PyramidConfig:
        return PyramidConfig(
            backbone=config.backbone,
            neck=config.neck,
            in_chans=config.in_chans,
            image_size=config.image_size,
            freeze_norm=config.freeze_norm,
            norm_eps=config.norm_eps,
            **cls.plan(config)._asdict(),
        )


def _given(indices: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    """Which of `count` maps are given, counted from 0."""
    if indices is None:
        return tuple(range(count))
    chosen = tuple(i + count if i < 0 else i for i in indices)
    if not chosen or not all(0 <= i < count for i in chosen) or list(chosen) != sorted(set(chosen)):
        raise OptionError(
            f"the pyramid has {count} maps; out_indices names them from 0, or from -1 backwards, fine to coarse",
            asked=f"out_indices={indices}",
            fix=f"out_indices=({count - 1},)",
        )
    return chosen


def fitted_input(backbone: InputSpec, image_size: int | tuple[int, int] | None) -> InputSpec:
    """How images become a detector's input: fitted into `image_size`, normalised as the backbone is used to.

    A backbone of a fixed size gets the image fitted into that, and padded to the whole of it.
    """
    size = image_size or (backbone.size if backbone.fixed_size else IMAGE_SIZE)
    size = (size, size) if isinstance(size, int) else size
    divisor = backbone.divisor if DIVISOR % backbone.divisor else DIVISOR
    return InputSpec(
        size=size,
        resize="fit",
        crop_pct=1.0,
        antialias=False,
        channels=backbone.channels,
        channel_order=backbone.channel_order,
        mean=backbone.mean,
        std=backbone.std,
        divisor=max(size) if backbone.fixed_size else divisor,
    )


def whole_cells(images: Tensor, divisor: int) -> Tensor:
    """A batch (B, C, H, W) with zeros at the right and at the bottom, up to whole multiples of the divisor."""
    rows, columns = -images.shape[2] % divisor, -images.shape[3] % divisor
    return F.pad(images, (0, columns, 0, rows)) if rows or columns else images


def set_norms(backbone: nn.Module, eps: float | None, *, frozen: bool) -> None:
    """Another epsilon for the batch norms of a backbone, and whether their parameters are trained."""
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            module.eps = module.eps if eps is None else eps
            if frozen:
                module.requires_grad_(False)
    keep_frozen(backbone, frozen)


def keep_frozen(backbone: nn.Module, frozen: bool) -> None:
    """Frozen batch norms stay in evaluation mode whatever mode the model is put in."""
    if frozen:
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _sized_backbone(config: PyramidConfig) -> Backbone:
    """The backbone, built for `image_size` where it takes one size only."""
    part, size = config.backbone, config.image_size
    if size is None or isinstance(part, nn.Module):
        return build_backbone(part, in_chans=config.in_chans)
    # Whether it does is seen of one without weights, which are fetched once.
    bare = {k: v for k, v in part.items() if k not in OF_THE_WEIGHTS} if isinstance(part, dict) else part
    backbone = build_backbone(bare, in_chans=config.in_chans)
    if backbone.input_spec.fixed_size:
        return build_backbone(part, in_chans=config.in_chans, img_size=size if isinstance(size, int) else max(size))
    return backbone if bare == part else build_backbone(part, in_chans=config.in_chans)
