"""Which names may be used without a namespace, and which kinds of component are models by themselves."""

from __future__ import annotations

BARE = ("core", "cnn", "vit", "detection", "segmentation", "train", "explain")
"""The first-party namespaces whose names may be used bare. Nobody else's name ever means anything bare: what `swin_b`
is cannot be changed by installing a package. (`timm` is ours too, but has a name for everything.)"""

KINDS = ("model", "backbone", "neck", "head")
WHOLE = KINDS[:2]
"""The kinds that a listing shows and a reference means, unless another kind is asked for."""


def short_ref(namespace: str, name: str) -> str:
    """The shortest reference to a model whose bare name is not shared."""
    return name if namespace in BARE else f"{namespace}/{name}"
