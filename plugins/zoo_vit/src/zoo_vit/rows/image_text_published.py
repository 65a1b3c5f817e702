"""The records of CLIP's, SigLIP's and InternVL's published weights."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.specs import IMAGENET_MEAN, IMAGENET_STD, CheckpointSpec, InputSpec, Metric
from zoo_vit.rows.row import Timm

OPEN_CLIP_RESULTS = "https://github.com/mlfoundations/open_clip/blob/main/docs/openclip_results.csv"
SIGLIP2_RESULTS = (
    "https://github.com/google-research/big_vision/blob/main/big_vision/configs/proj/image_text/README_siglip2.md"
)

CLIP_INPUT = InputSpec(
    crop_pct=1.0,
    interpolation="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    fixed_size=True,
)
_HALF = (0.5, 0.5, 0.5)

# Both towers' publishers use every pixel of a square image; timm's configurations leave that unsaid for many tags.
_WHOLE = {"crop_pct": 1.0}
_STRETCHED = {"resize": "stretch", "crop_pct": 1.0}

# timm's note on a file that serves its plain architecture too.
_ASKS_FOR_QUICK_GELU = "natively QuickGELU, use quickgelu model variant for original results"


def _zero_shot(percent: float, side: int, source: str) -> tuple[Metric, ...]:
    conditions = {"image_size": side, "text": "the text tower it was published with"}
    return (
        Metric(name="zero_shot_top1", value=percent, dataset="imagenet-1k/val", conditions=conditions, source=source),
    )


def clip(architecture: str, tags: Mapping[str, float | None]) -> Timm:
    """Towers with their projection: tags of timm, with the figure where there is one."""
    activation, side = "quick_gelu" if "quickgelu" in architecture else "gelu", int(architecture.rpartition("_")[2])
    figures = {tag: _zero_shot(top1, side, OPEN_CLIP_RESULTS) for tag, top1 in tags.items() if top1 is not None}
    heeded = (_ASKS_FOR_QUICK_GELU,) if activation == "quick_gelu" else ()
    return Timm(architecture, {"activation": activation}, tuple(tags), _WHOLE, figures, heeded=heeded)


def siglip(architecture: str, tag: str, percent: float | None = None, side: int = 0) -> Timm:
    """side: pixels of the image that the figure was measured with, where they are not timm's."""
    source = SIGLIP2_RESULTS if tag == "v2_webli" else OPEN_CLIP_RESULTS
    side = side or int(architecture.rpartition("_")[2])
    figures = {} if percent is None else {tag: _zero_shot(percent, side, source)}
    return Timm(architecture, {}, (tag,), _STRETCHED, figures)


def clip_in_transformers(
    repository: str,
    files: tuple[str, ...],
    classes: int,
    percent: float,
    *,
    sha256: str | None = None,
    size: int | None = None,
) -> CheckpointSpec:
    """A whole CLIP of OpenAI's on the Hub, of which the text tower is left out. files: tried in this order."""
    return CheckpointSpec(
        name="openai_transformers",
        sources=tuple(f"hf://openai/{repository}/{file}" for file in files),
        sha256=sha256,
        size=size,
        format="transformers",
        license="Apache-2.0",
        num_classes=classes,
        input=CLIP_INPUT,
        config={"activation": "quick_gelu"},
        metrics=_zero_shot(percent, 224, OPEN_CLIP_RESULTS),
        aliases=(f"openai/{repository}",),
        notes=f"{_OPENAI_LICENSE} {_TORCHSCRIPT}",
    )


def clip_from_laion(repository: str, percent: float) -> CheckpointSpec:
    """A whole CLIP of LAION's in open_clip's layout, which is OpenAI's."""
    return CheckpointSpec(
        name="laion2b_open_clip",
        sources=(f"hf://laion/{repository}/open_clip_pytorch_model.bin",),
        format="original",
        license="MIT",
        num_classes=512,
        input=CLIP_INPUT,
        config={"activation": "gelu"},
        trained_on=("laion-2b",),
        metrics=_zero_shot(percent, 224, OPEN_CLIP_RESULTS),
        aliases=(f"laion/{repository}",),
    )


def siglip_in_transformers(repository: str, side: int, usual: int, percent: float | None) -> CheckpointSpec:
    """usual: pixels of the size's own images; weights for others say theirs in their name."""
    second = repository.startswith("siglip2")
    name = "v2_webli_transformers" if second else "webli_transformers"
    return CheckpointSpec(
        name=name if side == usual else f"{name}_{side}",
        sources=(f"hf://google/{repository}/model.safetensors",),
        format="transformers",
        license="Apache-2.0",
        num_classes=0,
        input=InputSpec(
            size=(side, side),
            resize="stretch",
            crop_pct=1.0,
            interpolation="bicubic",
            mean=_HALF,
            std=_HALF,
            fixed_size=True,
        ),
        config={"image_size": side},
        trained_on=("webli",),
        metrics=() if percent is None else _zero_shot(percent, side, SIGLIP2_RESULTS if second else OPEN_CLIP_RESULTS),
        aliases=(f"google/{repository}",),
        notes="Whether its own preprocessing interpolates bilinearly has not been checked." if second else "",
    )


def internvit_from_opengvlab(name: str, repository: str, license: str, notes: str) -> CheckpointSpec:
    """The encoder alone, in the layout of OpenGVLab's own code."""
    return CheckpointSpec(
        name=name,
        sources=(f"hf://OpenGVLab/{repository}/model.safetensors",),
        format="original",
        license=license,
        num_classes=0,
        input=InputSpec(
            size=(448, 448), crop_pct=1.0, interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD, divisor=14
        ),
        aliases=(f"OpenGVLab/{repository}",),
        notes=f"bfloat16. {notes}",
    )


_OPENAI_LICENSE = "OpenAI's code is MIT and says nothing of the weights; timm's copy is tagged Apache-2.0."
_TORCHSCRIPT = (
    "OpenAI's own .pt files are TorchScript archives: their tensors are read, the code in them is not run. Open one "
    'with format="original".'
)
