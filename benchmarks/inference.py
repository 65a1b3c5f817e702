"""Eager inference on the CPU: the zoo's classifiers against timm's own, on the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks.measuring import Table, in_turns, shown_ratio

MODELS = (
    ("resnet50", "resnet50"),
    ("vgg11", "vgg11"),
    ("mobilenetv2", "mobilenetv2_100"),
    ("mobilenetv3_large", "mobilenetv3_large_100"),
    ("efficientnet_b0", "efficientnet_b0"),
    ("efficientnet_lite0", "tf_efficientnet_lite0"),
    ("convnext_t", "convnext_tiny"),
    ("vit_s_16", "vit_small_patch16_224"),
    ("vit_b_16", "vit_base_patch16_224"),
    ("swin_t", "swin_tiny_patch4_window7_224"),
    ("swin_b", "swin_base_patch4_window7_224"),
    ("dinov2_vitb14", "vit_base_patch14_dinov2"),
)


def inference(quick: bool) -> Table:
    """Images a second, batches of 1 and 8, and the largest difference of the logits (of embeddings without a head)."""
    rows = [_row(ours, theirs, seconds=2 if quick else 10) for ours, theirs in MODELS[: 3 if quick else None]]
    return Table(
        "Eager inference on the CPU",
        "float32, each model's own image size, the same weights on both sides, in turns; median of the rounds. Above 1 "
        "the zoo is faster. Budget: ≥ 1.0 x at equal outputs.",
        ("model", "zoo, images a second", "÷ timm, batch 1", "÷ timm, batch 8", "largest difference"),
        rows,
    )


def _row(ours: str, theirs: str, seconds: float) -> tuple[str, ...]:
    """One model; `seconds` is about how long either side computes at each batch size."""
    import timm
    import torch

    import zoo

    torch.manual_seed(0)
    reference = timm.create_model(theirs).eval()
    model = zoo.create(ours).eval()
    native = model.key_maps()["timm"].load(reference.state_dict())
    model.load_state_dict(native.tensors)
    ratios, speed, difference = [], 0.0, 0.0
    with torch.inference_mode():
        for batch in (1, 8):
            images = torch.randn(batch, *reference.pretrained_cfg["input_size"])
            sides = {"zoo": _timed(model, images), "timm": _timed(reference, images)}
            sides["timm"]()
            rounds = max(3, min(100, round(seconds / sides["timm"]())))
            taken = in_turns(sides, rounds)
            # Neighbours in time see the same machine, so the ratio is taken round by round.
            ratios.append(median(t / z for z, t in zip(taken["zoo"], taken["timm"], strict=True)))
            speed = batch / median(taken["zoo"])
            answer = model(images)
            answer = answer.get("logits", answer["embeddings"])
            difference = max(difference, (answer - reference(images)).abs().max().item())
    return (f"`{ours}`", f"{speed:.1f}", shown_ratio(ratios[0]), shown_ratio(ratios[1]), f"{difference:.0e}")


def _timed(model: Callable[[object], object], images: object) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        model(images)
        return time.perf_counter() - start

    return run
