"""How others name the blocks of inverted residual networks: MobileNetV2, MobileNetV3, EfficientNet.

A block is depthwise (`separable`: conv_dw, conv_pw) or widens first (`expanding`: conv_pw, conv_dw, conv_pwl), and may
have squeeze-and-excitation before its last convolution. Ours is block `b` of stage `s`: `blocks.s.b`. Others count the
parts of a block, or all blocks of the network, so which parts there are decides the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zoo.checkpoints.keymap import Rename


def place_blocks(published: str, first: int, depths: Sequence[int]) -> Iterator[Rename]:
    """Blocks counted through the network, from `first`, to their stages of so many blocks: `published.17` →
    `blocks.3.2`."""
    number = first
    for stage, depth in enumerate(depths):
        for block in range(depth):
            yield Rename(rf"{published}.{number}.(.+)", rf"blocks.{stage}.{block}.\1")
            number += 1


def name_parts(stages: str, parts: Mapping[str, str]) -> Iterator[Rename]:
    """The parts of all blocks in these stages (their digits): `blocks.3.2.block.0.0` → `blocks.3.2.conv_pw`."""
    for published, native in parts.items():
        yield Rename(rf"blocks.([{stages}]).(\d+).{published}.(.+)", rf"blocks.\1.\2.{native}.\3")


# torchvision's EfficientNet and MobileNetV3 count the parts of a block.
SEPARABLE = {
    "block.0.0": "conv_dw",
    "block.0.1": "bn1",
    "block.1.0": "conv_pw",
    "block.1.1": "bn2",
}
SEPARABLE_EXCITED = {
    "block.0.0": "conv_dw",
    "block.0.1": "bn1",
    "block.1.fc1": "se.conv_reduce",
    "block.1.fc2": "se.conv_expand",
    "block.2.0": "conv_pw",
    "block.2.1": "bn2",
}
EXPANDING = {
    "block.0.0": "conv_pw",
    "block.0.1": "bn1",
    "block.1.0": "conv_dw",
    "block.1.1": "bn2",
    "block.2.0": "conv_pwl",
    "block.2.1": "bn3",
}
EXPANDING_EXCITED = {
    "block.0.0": "conv_pw",
    "block.0.1": "bn1",
    "block.1.0": "conv_dw",
    "block.1.1": "bn2",
    "block.2.fc1": "se.conv_reduce",
    "block.2.fc2": "se.conv_expand",
    "block.3.0": "conv_pwl",
    "block.3.1": "bn3",
}
