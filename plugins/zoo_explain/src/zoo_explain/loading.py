"""The model that a command line asks for, with its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.cli.arguments import Arguments, Option
from zoo.cli.progress import Progress

OPTIONS = (
    Option("--device", "where to compute: cpu (the default), cuda …", value="DEVICE"),
    Option("--checkpoint", "other weights: a checkpoint's name, or a file of your own", value="WEIGHTS"),
    Option("--format", "whose key names that file has: native, timm, torchvision …", value="FORMAT"),
    Option("--allow-license", "accept weights under this licence; '*' accepts any", value="SPDX", repeat=True),
)
"""What such a command takes beside its own options."""


def created(ref: str, arguments: Arguments, progress: Progress, *, image_size: int | None = None) -> Any:
    """What `zoo.create` makes of a reference and of `OPTIONS`; the download is shown."""
    import zoo
    from zoo.checkpoints.delivery import watched_by

    def watch(name: str) -> Callable[[int, int | None], None]:
        progress.step(f"fetching {name}", unit="B")
        return progress.advance

    with watched_by(watch):
        return zoo.create(
            ref,
            pretrained=True,
            checkpoint=arguments.text("checkpoint"),
            format=arguments.text("format"),
            allow_licenses=arguments.texts("allow-license") or None,
            img_size=image_size,
            device=arguments.text("device"),
        )
