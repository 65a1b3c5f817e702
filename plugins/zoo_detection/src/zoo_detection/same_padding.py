"""Padding as TensorFlow's `SAME`: a map of n pixels becomes ceil(n / stride), and an odd pixel goes right and below."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A convolution that pads (B, C, H, W) as it comes, so that the output is (B, C', ceil(H / s), ceil(W / s))."""

    def forward(self, input: Tensor) -> Tensor:
        (rows, columns) = (self._padding(input.shape[2 + axis], axis) for axis in (0, 1))
        return super().forward(F.pad(input, (*columns, *rows)))

    def _padding(self, side: int, axis: int) -> tuple[int, int]:
        kernel, stride = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1, self.stride[axis]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2


def pad_as_tensorflow(network: nn.Module) -> None:
    """Give every strided convolution inside TensorFlow's padding; at stride 1 there is no difference."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and max(child.kernel_size) > 1:
                setattr(module, name, _same(child))


def _same(conv: nn.Conv2d) -> SameConv2d:
    same = SameConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same
