"""timm's own models as the reference: random weights that tell functions apart, and timm's features-only wrapper."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from zoo.build.fast_init import without_initialisation


def reference(architecture: str, seed: int = 0, **options: object) -> nn.Module:
    """timm's model in evaluation mode, filled with random values. Scales, biases and statistics are random too: at
    their usual ones and zeros a swapped or forgotten normalisation would not show."""
    with without_initialisation():
        model = timm.create_model(architecture, **options).eval()
    torch.manual_seed(seed)
    buffers = dict(model.named_buffers())
    for name, tensor in model.state_dict().items():
        statistic = name.rpartition(".")[2].startswith("running_")
        if tensor.is_floating_point() and (name not in buffers or statistic):
            _fill(name, tensor)
    return model


def _fill(name: str, tensor: Tensor) -> None:
    if tensor.ndim > 1:
        tensor.normal_(0, (tensor[0].numel()) ** -0.5)
    elif name.endswith(("weight", "running_var")):
        tensor.uniform_(0.8, 1.2)
    else:
        tensor.uniform_(-0.1, 0.1)


def image(model: nn.Module, divisor: int = 1, side: int = 96) -> Tensor:
    """One random image of the model's own size, or a smaller one where any multiple of `divisor` will do."""
    cfg = model.pretrained_cfg
    height, width = cfg["input_size"][1:]
    if not cfg["fixed_input_size"]:
        small = max(divisor, side // divisor * divisor)
        height, width = min(small, height), min(small, width)
    return torch.randn(1, 3, height, width)


def feature_maps(model: nn.Module, architecture: str, images: Tensor) -> list[Tensor]:
    """Every map of timm's own `features_only` wrapper around the model's weights."""
    if any(row["module"] == "" for row in model.feature_info):  # the wrapper looks for them by name and fails
        with torch.inference_mode():
            return model.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    with without_initialisation():
        wrapper = timm.create_model(architecture, features_only=True, out_indices=list(range(len(model.feature_info))))
    weights = {name.replace(".", "_"): tensor for name, tensor in model.state_dict().items()}
    # The wrappers put `model.` in front, or flatten `stages.0` to `stages_0`.
    own = wrapper.state_dict()
    names = {name: name.removeprefix("model.").replace(".", "_") for name in own}
    wrapper.load_state_dict({name: weights[loose] for name, loose in names.items()}, assign=True)
    with torch.inference_mode():
        maps = wrapper.eval()(images)
    return [m.permute(0, 3, 1, 2) if getattr(wrapper, "output_fmt", "") == "NHWC" else m for m in maps]


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the reference's largest value, at least 1."""
    assert ours.shape == theirs.shape, (tuple(ours.shape), tuple(theirs.shape))
    return float((ours - theirs).abs().max() / max(1.0, float(theirs.abs().max())))
