"""Models of a user's own, in a module that other processes can import."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import zoo


class PebbleConfig(zoo.ModelConfig):
    """A width and a number of classes."""

    num_classes: int = 3
    width: int = 4


class Pebble(zoo.Classifier):
    """A classifier with 30 parameters or so."""

    Config = PebbleConfig

    def __init__(self, config: PebbleConfig) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.width, 1)
        self.fc = nn.Linear(config.width, config.num_classes)

    @property
    def num_classes(self) -> int:
        return self.fc.out_features

    def forward(
        self, images: Tensor, targets: Tensor | None = None, *, output_features: bool = False
    ) -> dict[str, Tensor]:
        embeddings = self.stem(images).mean(dim=(2, 3))
        return {"embeddings": embeddings, "logits": self.fc(embeddings)}


def pebble(value: float, **config: int) -> Pebble:
    """A Pebble whose weights are all that value, so that equal values are equal weights."""
    model = Pebble(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def value_of(model: nn.Module) -> float:
    """The value its weights are all filled with; an assertion fails where they are not."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert torch.equal(flat, flat[:1].expand_as(flat))
    return flat[0].item()


def register(registry: zoo.ModelRegistry, *versions: str, name: str = "m") -> None:
    """Each version with weights of its own."""
    for number, version in enumerate(versions):
        registry.register(name=name, version=version, model=pebble(float(number)))


def blobs(root: Path) -> list[str]:
    """The digests in a store."""
    return [path.name for path in root.glob("blobs/sha256/*/*")]
