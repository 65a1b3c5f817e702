"""A detector in a page: it finds red and blue things that are large enough in its input, and names their corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from skimage.measure import label, regionprops
from torch import Tensor, nn

from zoo.models.detector import DetectorConfig, KeypointDetector, Selection, whole_sizes
from zoo.models.labels import LabelSpace
from zoo.models.targets import Target
from zoo.specs import InputSpec

THINGS = LabelSpace(name="things", names=("red", "blue"), source_ids=(7, 9), keypoints=("middle",))


class ColourConfig(DetectorConfig):
    num_classes: int = Field(2)
    least: int = Field(3, description="pixels of a side below which nothing is seen")


class ColourDetector(KeypointDetector):
    """Its scores are the shares of its image that things fill, to the fourth root; its masks are full."""

    Config = ColourConfig
    config: ColourConfig
    task = "keypoints"

    def __init__(self, config: ColourConfig) -> None:
        super().__init__(config)
        self.anchor = nn.Parameter(torch.zeros(()))
        self.input_spec = InputSpec(
            size=(128, 128), resize="fit", crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1), divisor=32
        )
        self.label_space = THINGS
        self.batches: list[int] = []
        self.asked: Selection | None = None

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
        self.batches.append(len(images))
        self.asked = selection = selection or self.selection
        found = [self._things(image, selection) for image in images[:, :3]]
        assert len(whole_sizes(images, sizes)) == len(images)
        rows = torch.zeros(len(images), selection.max_detections, 6)
        rows[..., 5] = -1
        for row, things in zip(rows, found, strict=True):
            row[: len(things)] = torch.tensor(things).reshape(-1, 6)
        boxes = rows[..., :4]
        middles = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, torch.ones_like(boxes[..., :1])], -1)
        outputs = {"boxes": boxes, "scores": rows[..., 4], "labels": rows[..., 5].long()}
        outputs |= {"masks": torch.ones(*rows.shape[:2], 14, 14), "keypoints": middles[:, :, None]}
        return outputs | ({"embeddings": rows[..., 4:]} if output_embeddings else {})

    def _things(self, image: Tensor, selection: Selection) -> list[tuple[float, ...]]:
        """Rows of x1, y1, x2, y2, score, label, best first."""
        red, green, blue = image
        things = []
        for number, bright in enumerate(((red > 0.8) & (blue < 0.2), (blue > 0.8) & (red < 0.2))):
            for thing in regionprops(label((bright & (green < 0.2)).numpy())):
                y1, x1, y2, x2 = thing.bbox
                score = (thing.area / image[0].numel()) ** 0.25
                wanted = selection.classes is None or number in selection.classes
                if wanted and score > selection.score_threshold and min(x2 - x1, y2 - y1) >= self.config.least:
                    things.append((x1, y1, x2, y2, score, number))
        return sorted(things, key=lambda thing: -thing[4])[: selection.max_detections]
