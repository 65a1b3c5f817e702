"""Any timm architecture as a zoo classifier and as a zoo backbone, over one and the same state dict.

    classifier   images (B, C, H, W) -> encoder.forward_features -> forward_head -> embeddings (B, D), logits (B, K)
    backbone     images (B, C, H, W) -> encoder.forward_intermediates -> maps (B, C_i, H / s_i, W / s_i)

A family of its own subclasses `TimmClassifier` with its `Config` and says which timm architecture a config means:

    class ResNet(TimmClassifier):
        Config = ResNetConfig                    # a TimmClassifierConfig with `depth`

        @classmethod
        def architecture(cls, config): return f"resnet{config.depth}"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator
from torch import Tensor, nn

from zoo.errors import UnsupportedError
from zoo.models.attention import with_attentions
from zoo.models.classifier import Classifier, classification_losses
from zoo.models.config import ModelConfig
from zoo.models.model import Backbone
from zoo_timm.encoders import (
    build_encoder,
    check_images,
    classifier_of,
    classifier_path,
    encoder_input,
    first_parameter,
    hidden_layout,
    number_of_classes,
    path_of_first_parameter,
    reset_classifier,
    set_classifier,
    without_checkpointing,
)
from zoo_timm.maps import choose_maps, map_table
from zoo_timm.weights import EncoderFormat, NativeFormat, TimmFormat

if TYPE_CHECKING:
    from zoo.checkpoints.keymap import StateMap


Pixels = Annotated[int, Field(ge=1, le=16384)]

Argument = bool | int | float | str | tuple[int, ...]
"""What a timm constructor may be told: one value, or one for each stage."""


class EncoderConfig(ModelConfig):
    """What every timm encoder may be told."""

    in_chans: int = Field(3, ge=1, le=4096, description="channels of the image")
    image_size: Pixels | tuple[Pixels, Pixels] | None = Field(
        None, description="pixels, one side or (height, width); None: the architecture's own"
    )
    drop_rate: float | None = Field(
        None, ge=0, lt=1, description="dropout before the classifier while training; None: the architecture's own"
    )
    drop_path_rate: float | None = Field(
        None, ge=0, lt=1, description="stochastic depth while training; None: the architecture's own"
    )


class TimmClassifierConfig(EncoderConfig):
    """Base of the configs of families that are timm architectures."""

    num_classes: int = Field(1000, ge=0, le=10_000_000, description="outputs of the classifier; 0: no classifier")


class TimmConfig(TimmClassifierConfig):
    """Config of `TimmModel`."""

    architecture: str = Field("resnet50", pattern="^[a-z0-9_]+$", description="timm's name, without a tag")


_TIMM_LOADING = frozenset(
    ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "file", "url", "source")
)


class TimmBackboneConfig(EncoderConfig):
    """Config of `TimmBackbone`."""

    architecture: str = Field("resnet50", pattern="^[a-z0-9_]+$", description="timm's name, without a tag")
    out_indices: tuple[int, ...] | None = Field(
        None, description="which maps, negative ones from the end; None: the last one of each stride"
    )
    arguments: dict[str, Argument] = Field({}, description="what else timm's constructor is told")

    @field_validator("arguments")
    @classmethod
    def _describe_the_network_only(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        # A config may come from somebody's file: it is not to have timm fetch or open anything.
        refused = sorted(arguments.keys() & _TIMM_LOADING)
        if refused:
            raise ValueError(f"`{refused[0]}` is not an argument of a network")
        return arguments


class TimmClassifier(Classifier):
    """Interface of classifiers whose encoder is a timm model. Subclasses say which: `architecture(config)`.

    Attributes:
        encoder: the timm model, classifier included; its state dict is this model's, behind `encoder.`.
    """

    Config = TimmClassifierConfig
    config: TimmClassifierConfig
    encoder: nn.Module

    def __init__(self, config: TimmClassifierConfig) -> None:
        super().__init__(config)
        options = _encoder_options(config, config.num_classes)
        self.encoder = build_encoder(self.architecture(config), {**options, **self.arguments(config)})
        self.input_spec = self._takes = encoder_input(self.encoder, config.image_size)
        self._first = path_of_first_parameter(self.encoder)
        self._classifier = classifier_path(self.encoder)
        self.layout = hidden_layout(self.encoder)

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module would file an assigned module under its own name, past any property.
        if name == "head":
            classes = set_classifier(self.encoder, self._classifier, value)
            self.config = self.config.replace(num_classes=classes)
            self.label_space = None  # the new outputs are other classes
        else:
            super().__setattr__(name, value)

    @classmethod
    def architecture(cls, config: Any) -> str:
        """timm's name, without a tag, for a config of this family."""
        raise NotImplementedError(f"{cls.__name__} does not say which timm architecture it is: define architecture()")

    @classmethod
    def arguments(cls, config: Any) -> Mapping[str, Argument]:
        """What else timm's constructor is told for a config of this family: `{"bn_eps": 1e-3}`; and `ADJUSTMENTS`."""
        return {}

    @classmethod
    def published(cls, config: Any) -> Mapping[str, StateMap]:
        """Further published formats of this family, from published names to timm's own (without `encoder.`)."""
        return {}

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        output_features: bool = False,
        output_attentions: bool = False,
    ) -> dict[str, Any]:
        check_images(images, self._takes, first_parameter(self.encoder, self._first))
        outputs: dict[str, Any] = {}
        trunk = self._with_maps if output_features else self._without_maps
        if output_attentions:
            with without_checkpointing(self.encoder):
                (tokens, maps), outputs["attentions"] = with_attentions(trunk, images)
        else:
            tokens, maps = trunk(images)
        if output_features:
            outputs["features"] = maps
        outputs["embeddings"] = self.encoder.forward_head(tokens, pre_logits=True)
        if self.config.num_classes:
            outputs |= self.classify(tokens, outputs["embeddings"])
        if targets is not None:
            outputs |= self._losses(outputs, targets)
        return outputs

    def classify(self, tokens: Any, embeddings: Tensor) -> dict[str, Tensor]:
        """`logits` (B, K) of the trunk's output; a family with several heads adds what each of them says."""
        if self._classifier is not None:
            return {"logits": self.encoder.get_classifier()(embeddings)}
        # Such a head pools once more, which costs next to nothing beside the trunk.
        return {"logits": self.encoder.forward_head(tokens)}

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D): what the classifier sees."""
        check_images(images, self._takes, first_parameter(self.encoder, self._first))
        embeddings: Tensor = self.encoder.forward_head(self.encoder.forward_features(images), pre_logits=True)
        return embeddings

    @property
    def head(self) -> nn.Module:
        """The module that turns embeddings into logits; assigning one changes the classes (`m.head = nn.Linear(…)`)."""
        return classifier_of(self.encoder)

    def reset_head(self, num_classes: int) -> None:
        """A freshly initialised classifier for that many classes; 0 takes it away."""
        config = self.config.replace(num_classes=number_of_classes(num_classes))
        reset_classifier(self.encoder, config.num_classes)
        self.config, self.label_space = config, None
        self._classifier = classifier_path(self.encoder)

    @classmethod
    def as_backbone(cls, config: TimmClassifierConfig, out_indices: Sequence[int] | None = None) -> TimmBackbone:
        """The feature maps of this configuration, under the same state-dict names less the classifier's."""
        backbone = TimmBackbone(
            architecture=cls.architecture(config),
            arguments=dict(cls.arguments(config)),
            out_indices=out_indices,
            **_given(config, EncoderConfig),
        )
        backbone.published = cls.published(config)
        return backbone

    def key_maps(self) -> Mapping[str, StateMap]:
        return _key_maps(self.encoder, self.architecture(self.config), self.published(self.config))

    def _with_maps(self, images: Tensor) -> tuple[Any, list[Tensor]]:
        tokens, maps = self.encoder.forward_intermediates(images, output_fmt="NCHW")
        return tokens, maps

    def _without_maps(self, images: Tensor) -> tuple[Any, list[Tensor]]:
        return self.encoder.forward_features(images), []

    def _losses(self, outputs: Mapping[str, Any], targets: Tensor) -> dict[str, Tensor]:
        if "logits" not in outputs:
            raise UnsupportedError("a model without a classifier has no loss", fix="num_classes=…, or reset_head(n)")
        return classification_losses(outputs["logits"], targets)


class TimmModel(TimmClassifier):
    """The timm architecture that the config names."""

    Config = TimmConfig

    @classmethod
    def architecture(cls, config: TimmConfig) -> str:
        return config.architecture


class TimmBackbone(Backbone):
    """The feature maps of a timm architecture, NCHW, fine to coarse.

    Attributes:
        encoder: the timm model without its classifier.
        published: further published formats, as `TimmClassifier.published` gives them.
    """

    Config = TimmBackboneConfig
    config: TimmBackboneConfig
    published: Mapping[str, StateMap] = {}

    def __init__(self, config: TimmBackboneConfig) -> None:
        super().__init__(config)
        options = _encoder_options(config, num_classes=0)
        self.encoder = build_encoder(config.architecture, {**options, **config.arguments})
        self.input_spec = self._takes = encoder_input(self.encoder, config.image_size)
        self._first = path_of_first_parameter(self.encoder)
        table = map_table(self.encoder)
        self.indices = choose_maps(table, config.out_indices, config.architecture)
        self.channels = tuple(table[i].channels for i in self.indices)
        self.strides = tuple(table[i].stride for i in self.indices)

    def forward(self, images: Tensor) -> list[Tensor]:
        check_images(images, self._takes, first_parameter(self.encoder, self._first))
        return self.encoder.forward_intermediates(
            images, indices=list(self.indices), output_fmt="NCHW", intermediates_only=True, stop_early=True
        )

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D): what the classifier of the whole model sees."""
        classifier_of(self.encoder)
        check_images(images, self._takes, first_parameter(self.encoder, self._first))
        return self.encoder.forward_head(self.encoder.forward_features(images), pre_logits=True)

    def key_maps(self) -> Mapping[str, StateMap]:
        return _key_maps(self.encoder, self.config.architecture, self.published)


def _given(config: EncoderConfig, fields: type[EncoderConfig]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in fields.model_fields}


def _encoder_options(config: EncoderConfig, num_classes: int) -> dict[str, Any]:
    """The config in timm's words."""
    return {
        "num_classes": num_classes,
        "in_chans": config.in_chans,
        "img_size": config.image_size,
        "drop_rate": config.drop_rate,
        "drop_path_rate": config.drop_path_rate,
    }


def _key_maps(encoder: nn.Module, architecture: str, published: Mapping[str, StateMap]) -> dict[str, StateMap]:
    return {
        # A saved classifier is a file for its backbone too, and for other image channels.
        "native": NativeFormat(encoder, architecture),
        "timm": TimmFormat(encoder, architecture),
        **{name: EncoderFormat(encoder, architecture, keys) for name, keys in published.items()},
    }
