"""What is on the photographs of `tests/photos.py`, as detectors trained on COCO find it.

The boxes are what the frozen graph of TensorFlow's SSD-MobileNetV2 gave before any of this project's code was written;
NanoDet and CenterNet, run on their own, agree with them. They were looked at, too.
"""

from __future__ import annotations

from typing import NamedTuple


class Object(NamedTuple):
    """A COCO class and, where it was written down, its box: x1, y1, x2, y2 in the photograph's pixels."""

    name: str
    box: tuple[float, float, float, float] | None = None


OBJECTS = {
    "dog": (
        Object("bicycle", (78, 137, 554, 416)),
        Object("dog", (137, 211, 312, 535)),
        Object("car", (442, 77, 699, 169)),
    ),
    "giraffe": (Object("zebra", (259, 196, 424, 439)), Object("giraffe", (173, 24, 461, 447))),
    "eagle": (Object("bird", (136, 84, 599, 446)),),
    "coffee": (Object("cup", (172, 12, 411, 242)),),
    "person": (Object("person", (185, 100, 271, 371)), Object("horse"), Object("dog")),
    "horses": (Object("horse"),),
    "messi": (Object("person"), Object("sports ball", (336, 287, 387, 334))),
}
"""Objects of each photo that an SSD finds with a score of 0.4 and more; not all that there is to see."""
