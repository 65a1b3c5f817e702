"""timm models as they come: built, asked for their input and their head, held against an image batch."""

from __future__ import annotations

import difflib
import functools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import timm
import torch
from timm.layers.halo_attn import HaloAttn
from timm.models import get_model_input_config
from torch import Tensor, nn

from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.model import Layout, evaluating
from zoo.specs import InputSpec
from zoo_timm.adjustments import ADJUSTMENTS, adjust, compute_biases
from zoo_timm.inputs import input_spec
from zoo_timm.maps import map_table

# Heads that are not `classifier(embeddings)` though timm names one classifier: maps go in, or it normalises or pools
# in between. timm gives no other sign of it.
_OWN_HEADS = frozenset({"DLA", "DPN", "EfficientVitMsra", "ResNetV2", "SHViT", "Sequencer2d", "VisionTransformerSAM"})

# What else of a head goes when the classifier goes, where timm's `classifier` names only its last layer.
_WHOLE_HEADS: Mapping[str, tuple[str, ...]] = {
    "EfficientVitMsra": ("head",),
    "IFormer": ("head",),
    "Levit": ("head",),
    "LevitDistilled": ("head", "head_dist"),
    "MetaFormer": ("head.fc",),
    "RepVit": ("head",),
    "SHViT": ("head",),
}

# Heads whose reset takes the second, distilled classifier away unless told not to.
_FORGETS_DISTILLATION = frozenset({"IFormer", "RepVit"})

# Families that neither pad nor crop: a size is whole cells of the coarsest map, or of what is said here.
_WHOLE_CELLS = frozenset(
    {
        "DLA",
        "DeepseekVitClassifier",
        "DeepseekVitEncoder",
        "Eva",
        "Gemma4VitClassifier",
        "HieraDet",
        "HighResolutionNet",
        "InterpolatedPositions",
        "NaFlexVit",
        "Qwen3VitClassifier",
        "Qwen3VitEncoder",
        "VisionTransformer",
        "VisionTransformerSAM",
    }
)
_CELLS: Mapping[str, int] = {"CSATv2": 8, "Gemma4VitEncoder": 48, "TResNet": 4}

# Families whose blocks work on tokens in the order of nested windows.
_REORDERED = frozenset({"Hiera"})

# Families whose blocks work on maps with the channels last and do not say so.
_CHANNELS_LAST = frozenset({"VisionTransformerSAM"})


def build_encoder(architecture: str, options: Mapping[str, Any]) -> nn.Module:
    """A timm model with random weights. Options are timm's own and `ADJUSTMENTS`; None leaves it to the architecture.

    Raises:
        OptionError: no such architecture (with near names), or an option it does not take.
    """
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        raise OptionError(
            f"timm {timm.__version__} has no architecture {architecture!r}",
            asked=architecture,
            found="near: " + ", ".join(near) if near else None,
            fix=f'architecture="{near[0]}"' if near else 'zoo list "timm/*"',
        )
    cfg = timm.get_pretrained_cfg(architecture)
    chosen = {name: value for name, value in options.items() if value is not None}
    adjustments = {name: chosen.pop(name) for name in ADJUSTMENTS if name in chosen}
    if not cfg.fixed_input_size:
        chosen.pop("img_size", None)  # nothing in it depends on the size
    try:
        if _sides(chosen.get("img_size", cfg.input_size[1:])) != tuple(cfg.input_size[1:]):
            given = tuple(sorted((n, tuple(v) if isinstance(v, list) else v) for n, v in chosen.items()))
            _try_size(architecture, given)
        encoder = timm.create_model(architecture, **chosen)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise OptionError(
            f"timm cannot build {architecture}: {_in_our_words(str(error))}",
            asked=_in_our_words(", ".join(f"{name}={value!r}" for name, value in chosen.items())),
            fix=_heads_fix(chosen) or (f"image_size={cfg.input_size[1]}" if "img_size" in chosen else _LEAVE_OUT),
        ) from error
    adjust(encoder, adjustments)
    compute_biases(encoder)
    return encoder


_LEAVE_OUT = "leave out what it does not take"

# timm's names of arguments, and what our configs call them.
_OUR_WORDS = {
    "embed_dim": "width",
    "num_heads": "heads",
    "num_layers": "depth",
    "img_size": "image_size",
}


def _in_our_words(text: str) -> str:
    return re.sub("|".join(rf"\b{name}\b" for name in _OUR_WORDS), lambda match: _OUR_WORDS[match[0]], text)


def _heads_fix(options: Mapping[str, Any]) -> str | None:
    """What to type where the width is not that many whole heads."""
    width, heads = options.get("embed_dim"), options.get("num_heads")
    if not (isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads):
        return None
    return f"heads={max(n for n in range(1, heads) if width % n == 0)}, or width={_up(width, heads)}"


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


@functools.lru_cache(maxsize=256)
def _try_size(architecture: str, options: tuple[tuple[str, Any], ...]) -> None:
    """Run the architecture once on the meta device at the size asked for: many build for sizes they cannot take."""
    given = dict(options)
    with torch.device("meta"), torch.no_grad():
        encoder = timm.create_model(architecture, **given).eval()
        encoder.forward_features(torch.empty(1, given.get("in_chans", 3), *_sides(given["img_size"])))


def encoder_input(encoder: nn.Module, image_size: int | tuple[int, int] | None) -> InputSpec:
    """How images become the encoder's input, for the channels and the size it was built with."""
    built = get_model_input_config(encoder)
    channels, height, width = built["input_size"]
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    spec = input_spec(encoder.pretrained_cfg).with_channels(channels).with_size(*(image_size or (height, width)))
    return replace(spec, fixed_size=built["fixed_input_size"], divisor=size_divisor(encoder))


def hidden_layout(encoder: nn.Module) -> Layout | None:
    """How the encoder's blocks hold an image; None where they keep tokens in another order than the image's."""
    if type(encoder).__name__ in _REORDERED:
        return None
    # timm says both only where they differ from plain maps.
    return Layout(
        prefix_tokens=getattr(encoder, "num_prefix_tokens", 0),
        channels_last=getattr(encoder, "output_fmt", "NCHW") == "NHWC" or type(encoder).__name__ in _CHANNELS_LAST,
    )


def size_divisor(encoder: nn.Module) -> int:
    """What the sides of an image must be multiples of, in pixels."""
    family = type(encoder).__name__
    if get_model_input_config(encoder)["fixed_input_size"]:
        return 1
    coarsest = max(info.stride for info in map_table(encoder))
    blocks = [module.block_size for module in encoder.modules() if isinstance(module, HaloAttn)]
    if blocks:
        return coarsest * max(blocks)  # attention within blocks, which have to fill the coarsest map
    return coarsest if family in _WHOLE_CELLS else _CELLS.get(family, 1)


def path_of_first_parameter(encoder: nn.Module) -> tuple[str, ...]:
    """Where the parameter sits whose dtype is the encoder's, for `first_parameter`."""
    return tuple(next(iter(encoder.named_parameters()))[0].split("."))


def first_parameter(encoder: nn.Module, path: tuple[str, ...]) -> Tensor:
    """The parameter at that path now, or the first one where a layer of another build took its place. Looking through
    the modules in every forward pass would cost a small network a hundredth of its time."""
    found: Any = encoder
    for name in path:
        found = getattr(found, name, None)
    return found if isinstance(found, Tensor) else next(encoder.parameters())


@contextmanager
def without_checkpointing(encoder: nn.Module) -> Iterator[None]:
    """No gradient checkpointing meanwhile: what is recorded of a pass is not there when a block is run again."""
    checkpointed = [module for module in encoder.modules() if getattr(module, "grad_checkpointing", False)]
    for module in checkpointed:
        module.grad_checkpointing = False
    try:
        yield
    finally:
        for module in checkpointed:
            module.grad_checkpointing = True


def check_images(images: Tensor, spec: InputSpec, weights: Tensor) -> None:
    """Refuse what the encoder cannot take, with what it expects. Raises `InputError`.

    Args:
        spec: `encoder_input` of the encoder.
        weights: any of its parameters.
    """
    if images.ndim != 4 or images.shape[0] == 0 or images.shape[1] != spec.channels:
        raise InputError(
            f"expected a batch of images (B, {spec.channels}, H, W)",
            found=f"{tuple(images.shape)}",
            fix="images.unsqueeze(0) makes a batch of one; in_chans=… builds a model for other channels",
        )
    if not images.is_floating_point():
        raise InputError(
            "expected preprocessed images of a floating-point dtype",
            found=f"{images.dtype}",
            fix="model.predict(images) preprocesses photographs",
        )
    if images.device != weights.device and weights.device.type != "meta":
        raise InputError(
            f"expected images on {weights.device}, as the weights are",
            found=f"{images.device}",
            fix=f'images.to("{weights.device}")',
        )
    if images.dtype != weights.dtype and not torch.is_autocast_enabled(images.device.type):
        raise InputError(
            f"expected images of {weights.dtype}, as the weights are",
            found=f"{images.dtype}",
            fix=f"images.to({weights.dtype})",
        )
    if spec.fixed_size and (images.shape[2], images.shape[3]) != spec.size:
        raise InputError(
            f"this model takes images of {spec.size[0]} x {spec.size[1]} pixels only",
            found=f"{images.shape[2]} x {images.shape[3]}",
            fix=f"image_size=({images.shape[2]}, {images.shape[3]}) builds a model for them",
        )
    if images.shape[2] % spec.divisor or images.shape[3] % spec.divisor:
        raise InputError(
            f"this model takes images whose sides are multiples of {spec.divisor} pixels",
            found=f"{images.shape[2]} x {images.shape[3]}",
            fix=f"pad or resize to {_up(images.shape[2], spec.divisor)} x {_up(images.shape[3], spec.divisor)}",
        )


def _up(side: int, divisor: int) -> int:
    return -(-side // divisor) * divisor


def classifier_of(encoder: nn.Module) -> Any:
    """timm's classifier: a module, or several of a family with several. Raises `UnsupportedError` where none can be."""
    if gives_maps_only(encoder):
        raise UnsupportedError(
            f"{type(encoder).__name__} gives feature maps only, neither embeddings nor logits", fix="features_only=True"
        )
    try:
        return encoder.get_classifier()
    except AttributeError:  # looked for inside a head that was taken away as a whole
        return nn.Identity()


def gives_maps_only(encoder: nn.Module) -> bool:
    """Whether it is one of timm's plain encoders, which have no place for a head."""
    return not hasattr(encoder, "get_classifier")


def classifier_path(encoder: nn.Module) -> str | None:
    """Where the one module sits that turns embeddings into logits; None in a head of another build: several
    classifiers, one over maps, one behind a normalisation."""
    classifier = classifier_of(encoder)
    single = isinstance(classifier, nn.Module) and isinstance(encoder.pretrained_cfg["classifier"], str)
    if not single or type(encoder).__name__ in _OWN_HEADS:
        return None
    return next((path for path, module in encoder.named_modules() if module is classifier), None)


def head_prefixes(encoder: nn.Module) -> tuple[str, ...]:
    """Beginnings of the state-dict names that belong to the classifier and go with it."""
    paths = encoder.pretrained_cfg["classifier"] or ()
    paths = (paths,) if isinstance(paths, str) else tuple(paths)
    return tuple(f"{path}." for path in _WHOLE_HEADS.get(type(encoder).__name__, paths))


def number_of_classes(asked: object) -> int:
    """A number of outputs, of whatever integer type. Raises `OptionError` for anything else."""
    try:
        if isinstance(asked, (bool, Tensor)):
            raise TypeError("none of these counts anything")
        return operator.index(asked)  # type: ignore[arg-type]  # what it is not for is the error below
    except TypeError as error:
        raise OptionError(
            "a number of classes is a whole number", asked=f"num_classes={asked!r}", fix="model.reset_head(10)"
        ) from error


def reset_classifier(encoder: nn.Module, num_classes: int) -> None:
    """A fresh classifier, of the device and dtype of the one before; 0 takes it away. Nothing else is moved."""
    classifier_of(encoder)
    here, modules, own = _near_the_head(encoder), list(encoder.modules()), list(encoder.parameters())
    kept, known = set(map(id, modules)), set(map(id, own))  # of objects that the lists above keep alive
    if type(encoder).__name__ in _FORGETS_DISTILLATION:
        encoder.reset_classifier(num_classes, distillation=encoder.head.distillation)
    else:
        encoder.reset_classifier(num_classes)
    for module in encoder.modules():
        if id(module) not in kept:
            module.to(device=here.device, dtype=here.dtype)
    for parameter in encoder.parameters():
        if id(parameter) not in known:
            parameter.data = parameter.data.to(device=here.device, dtype=here.dtype)


def _near_the_head(encoder: nn.Module) -> Tensor:
    """The classifier's last parameter, or without a classifier the trunk's."""
    return next(p for p in reversed(list(encoder.parameters())) if p.is_floating_point())


def set_classifier(encoder: nn.Module, path: str | None, classifier: nn.Module) -> int:
    """Put the caller's module where embeddings become logits; gives its number of outputs.

    Args:
        path: `classifier_path` of the encoder as it was built.

    Raises:
        UnsupportedError: this family's head is not one module over embeddings.
        InputError: no module, or one that does not take the encoder's embeddings as they come.
    """
    if not isinstance(classifier, nn.Module):
        raise InputError(
            "a head is a module that turns embeddings into logits",
            found=f"{type(classifier).__name__}",
            fix="model.reset_head(0) takes the head away; nn.Linear(…) or a module of your own is one",
        )
    if path is None:
        raise UnsupportedError(
            f"the head of {type(encoder).__name__} is not one module over embeddings",
            fix="model.reset_head(num_classes)",
        )
    width = encoder.head_hidden_size
    here = _near_the_head(encoder)
    parameter = next((p for p in classifier.parameters() if p.is_floating_point()), torch.empty(0))
    if parameter.numel() and (parameter.device, parameter.dtype) != (here.device, here.dtype):
        raise InputError(
            f"the new head is not of the model's device and dtype: {here.device}, {here.dtype}",
            found=f"{parameter.device}, {parameter.dtype}",
            fix=f'head.to("{here.device}", {here.dtype})',
        )
    with evaluating(classifier), torch.no_grad():
        try:
            outputs = classifier(torch.zeros(1, width, device=parameter.device, dtype=parameter.dtype))
        except RuntimeError as error:
            raise InputError(
                f"the new head does not take the {width} values an image that {type(encoder).__name__} gives",
                found=str(error).splitlines()[0],
                fix=f"nn.Linear({width}, num_classes)",
            ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise InputError(
            "a head gives logits (B, num_classes)",
            found=f"{tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"{type(outputs).__name__}",
            fix=f"nn.Linear({width}, num_classes)",
        )
    encoder.set_submodule(path, classifier)
    encoder.num_classes = 0 if isinstance(classifier, nn.Identity) else int(outputs.shape[-1])
    return encoder.num_classes
