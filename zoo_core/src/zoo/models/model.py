"""The interfaces: Model, Backbone, Neck, Head. Config in; models give a dict, backbones and necks a list of maps.

B batch   C channels   H W the image's height and width   D width of an embedding
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from zoo.errors import OptionError, UnsupportedError
from zoo.models.config import ModelConfig, unknown_option
from zoo.models.labels import LabelSpace
from zoo.models.load_report import LoadReport
from zoo.models.provenance import Provenance
from zoo.specs import InputSpec

if TYPE_CHECKING:
    from zoo.checkpoints.keymap import StateMap
    from zoo.models.images import ImageInput
    from zoo.models.preprocessing import Frame
    from zoo.models.results import Result


class ConfigDoor(type):
    """The one door of every component: `C()`, `C({...})`, `C(key=value)` and `C(config)` all reach `__init__` as one
    validated `C.Config`."""

    def __call__(cls, config: ModelConfig | Mapping[str, Any] | None = None, /, **options: Any) -> Any:
        return super().__call__(cls.Config.of(config, options))  # type: ignore[attr-defined]  # every component has one


class Component(nn.Module, metaclass=ConfigDoor):
    """What models, backbones, necks and heads share: a config, an identity, and a way to load and save.

    Attributes:
        Config: the class of its config.
        config: what it was built from.
        provenance: where its weights come from; None for random weights.
        load_report: what the last load did; None for random weights.
    """

    Config: ClassVar[type[ModelConfig]] = ModelConfig
    provenance: Provenance | None = None
    load_report: LoadReport | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def key_maps(self) -> Mapping[str, StateMap]:
        """The published formats it opens and writes, by name; `native` (its own state dict) is always there."""
        return {}

    def description(self, format: str = "native") -> dict[str, Any]:
        """Its class, config, input, labels and origin in plain JSON types: what a saved folder keeps as `config.json`.

        Raises:
            UnsupportedError: its config does not lead to it any more. OptionError: an unknown format.
        """
        from zoo.build.saved import describe

        return describe(self, format)

    @classmethod
    def from_pretrained(cls, source: str | PathLike[str], **options: Any) -> Self:
        """Build it with weights: a reference or published name, `hf://org/repo`, or a folder of `save_pretrained`.

        Options are those of `zoo.create`.
        """
        import zoo

        return zoo.load_pretrained(cls, source, **options)

    def save_pretrained(
        self, directory: str | PathLike[str], *, format: str = "native", max_shard_size: int | str | None = "5GB"
    ) -> None:
        """Write `config.json` and `model.safetensors`, complete or not at all; `from_pretrained` reads them back.

        Args:
            directory: must not exist, or be empty: a saved model is never overwritten.
            format: key names of the weights file, one of the model's published formats.
            max_shard_size: bytes (`"5GB"`, `"500MiB"`, a number) from which on the weights are cut into several files
                with an index, as transformers does; None keeps them in one.
        """
        import zoo

        zoo.save_pretrained(self, directory, format=format, max_shard_size=max_shard_size)


class Layout(NamedTuple):
    """How hidden layers hold an image: as tokens (B, prefix_tokens + h * w, D), row by row, or as maps (B, D, h, w), or
    with `channels_last` (B, h, w, D). prefix_tokens: class, distillation and register tokens, before the patches.
    """

    prefix_tokens: int = 0
    channels_last: bool = False


class Model(Component):
    """A whole vision model: config in, dict out.

    Subclass a task base (`Classifier` …) where one fits. `forward(images, targets=None)` takes images
    (B, C, H, W), float, already preprocessed, and returns a dict of tensors; with targets the dict has the losses
    by name and `loss`, their sum.

    Attributes:
        task: what it does, in the catalogue's words.
        input_spec: how images become its input.
        label_space: what its classes are called; None where they have no names.
        layout: how its hidden layers hold an image; None where their order is not the image's.
    """

    task: ClassVar[str] = ""
    input_spec: InputSpec = InputSpec()
    label_space: LabelSpace | None = None
    layout: Layout | None = Layout()

    def forward(self, images: Tensor, targets: Any = None) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")

    def network(self, images: Tensor) -> Any:
        """What `forward` computes of images (B, C, H, W) before values decide what is computed next: what a forward
        pass costs is counted on this, on the meta device, where nothing has a value."""
        return self(images)

    @classmethod
    def as_backbone(cls, config: Any, out_indices: Sequence[int] | None = None) -> Backbone:
        """The backbone of this configuration, with the same state-dict keys, so that one file serves both."""
        raise UnsupportedError(f"{cls.__name__} has no feature maps", fix="features_only=False")

    def reset_head(self, num_classes: int) -> None:
        """Replace the head by a freshly initialised one for `num_classes` classes; the old label space goes with it."""
        raise UnsupportedError(f"{type(self).__name__} has no head that can be replaced")

    def infer(self, images: Tensor, frames: Sequence[Frame]) -> dict[str, Any]:
        """Outputs of one preprocessed batch (B, C, H, W). A task whose `forward` is told more than images says so here.

        Keyword-only parameters of this and of `postprocess` are what `predict` may be asked for.
        """
        outputs: dict[str, Any] = self(images)
        return outputs

    def postprocess(self, outputs: dict[str, Any], frames: Sequence[Frame]) -> list[Result]:
        """Outputs of one batch → one typed result an image, in the original image's pixels."""
        raise UnsupportedError(
            f"{type(self).__name__} says nothing about results", fix="subclass a task base, such as zoo.Classifier"
        )

    @classmethod
    def predict_options(cls) -> tuple[str, ...]:
        """What `predict` may be asked for, by name: the options of `infer` and of `postprocess`."""
        return tuple({**_options_of(cls.infer), **_options_of(cls.postprocess)})

    def predict(
        self,
        inputs: ImageInput | Iterable[ImageInput],
        *,
        channels: str = "rgb",
        batch_size: int = 8,
        **thresholds: Any,
    ) -> list[Result]:
        """From images to results: preprocess by `input_spec`, forward, postprocess.

        Args:
            inputs: one or a list of: path, URL, PIL image, HWC uint8 array, CHW float array or tensor in [0, 1].
            channels: `rgb` or `bgr`, of arrays and tensors.
            batch_size: images a forward pass.
            thresholds: what the task's `infer` and `postprocess` take, by name (`topk=5`, `score_threshold=0.5`).

        Raises:
            InputError: an image that cannot be used; its place in the list is named.
            OptionError: a threshold this task does not have or take, or a batch that is no number of images.
        """
        from zoo.models.images import iter_images
        from zoo.models.preprocessing import Preprocessor

        of_infer, of_postprocess = _options_of(type(self).infer), _options_of(type(self).postprocess)
        for name in thresholds:
            if name not in {*of_infer, *of_postprocess}:
                raise unknown_option(name, {**of_infer, **of_postprocess}, f"{type(self).__name__}.predict()")
        looking = {name: value for name, value in thresholds.items() if name in of_infer}
        telling = {name: value for name, value in thresholds.items() if name in of_postprocess}
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise OptionError(
                "a batch has at least one image, and a whole number of them",
                asked=f"batch_size={batch_size!r}",
                fix="batch_size=8",
            )
        reference = next(self.parameters())
        preprocessor = Preprocessor(self.input_spec)
        images = iter_images(inputs, channels)  # opened as their turn comes: a folder need not fit in memory
        results: list[Result] = []
        with evaluating(self), torch.inference_mode():
            while chunk := list(islice(images, batch_size)):
                batch, frames = preprocessor(chunk)
                outputs = self.infer(batch.to(reference.device, reference.dtype), frames, **looking)
                results += self.postprocess(outputs, frames, **telling)
        return results


class Backbone(Component):
    """An encoder that gives feature maps. `forward(images) -> list[Tensor]`, NCHW, fine to coarse.

    Attributes:
        channels: of each map. strides: input pixels a map pixel, of each map.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    input_spec: InputSpec = InputSpec()

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")

    @classmethod
    def as_backbone(cls, config: Any, out_indices: Sequence[int] | None = None) -> Self:
        """Itself, with other maps chosen where its config has `out_indices`."""
        backbone: Self = cls(config if out_indices is None else config.replace(out_indices=tuple(out_indices)))
        return backbone

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D), the model's own pooling."""
        raise UnsupportedError(f"{type(self).__name__} gives feature maps only")


class Neck(Component):
    """A list of maps in, a list of maps out. `bind` is called once, by the model that holds it.

    Attributes:
        channels, strides: of the maps it gives, known once bound.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build what depends on the incoming maps."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it builds: define bind()")

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")


class Head(Component):
    """A list of maps in, the task's dict out. `bind` is called once, by the model that holds it.

    Attributes:
        architecture: the reference of what `create_model` composes of a backbone and such a head, unless it is told.
    """

    architecture: ClassVar[str] = "classifier"

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build what depends on the incoming maps."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it builds: define bind()")

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")


def _options_of(method: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of `infer` or `postprocess` behind `self` and what they work on."""
    return dict(list(inspect.signature(method).parameters.items())[3:])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule gets its own mode back."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
