"""Which weights a call means: a checkpoint of the catalogue, a file of the caller's, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike, fspath
from urllib.parse import unquote

from zoo.catalog import Resolved, open_catalog
from zoo.checkpoints.sources import LOCAL, local_path
from zoo.errors import CheckpointError, NotFoundError, OptionError, RefError, SourceError
from zoo.specs import CheckpointSpec

OWN_FILE = "own-file"  # no reference can name it: a checkpoint's name has no hyphen
WEIGHTS, SHARDED_WEIGHTS = "model.safetensors", "model.safetensors.index.json"
IN_A_FOLDER = (WEIGHTS, SHARDED_WEIGHTS, "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What a folder of weights calls them, on the Hub and here; the first one there is taken."""


def chosen_checkpoint(
    resolved: Resolved, pretrained: bool, chosen: str | PathLike[str] | None, format: str | None
) -> CheckpointSpec | None:
    """The checkpoint to load, or None for random weights."""
    if chosen is None:
        if pretrained and resolved.checkpoint is None:
            composed = "backbone" in resolved.schema.get("properties", {})
            own = f'zoo.create("{resolved.model.name}", checkpoint="file://…", format="…") with a file of your own'
            raise NotFoundError(
                f"{resolved.ref} has no published weights in the catalogue",
                fix='backbone={"name": "resnet50", "pretrained": True}' if composed else own,
            )
        return resolved.checkpoint if pretrained else None
    text = fspath(chosen) if isinstance(chosen, str | PathLike) else None
    if not isinstance(text, str):
        raise OptionError(
            "`checkpoint` is a name, a path or an address",
            asked=f"checkpoint={type(chosen).__name__}",
            fix="model.load_state_dict(…)" if isinstance(chosen, Mapping) else 'checkpoint="path/to/weights"',
        )
    if is_file(chosen):
        source = _in_folder(text if "://" in text else f"file://{text}")
        return CheckpointSpec(name=OWN_FILE, sources=(source,), format=format or "native")
    named = resolved.checkpoint if resolved.named_checkpoint else None
    if named is not None and named.name != text:
        raise OptionError(
            "the reference names one checkpoint and `checkpoint` another",
            asked=f'"{resolved.ref}", checkpoint="{text}"',
            fix="name it once",
        )
    found = resolved.model.checkpoint(text)
    if found is None:
        names = [c.name for c in resolved.model.checkpoints]
        meant = [_newest(text) or f"./{text}"] if os.path.exists(text) else names
        raise NotFoundError(
            f"{resolved.model.name} has no checkpoint {text!r}",
            asked=text,
            found=", ".join(names) or "none",
            fix=f'checkpoint="{meant[0]}"' if meant else None,
        )
    return found


def check_is_there(weights: CheckpointSpec | None) -> None:
    """Refuse a file of the caller's that is to lie on this machine and does not. Raises `SourceError`."""
    if weights is not None and weights.name == OWN_FILE and weights.sources[0].startswith(LOCAL):
        local_path(weights.sources[0])


def _in_folder(source: str) -> str:
    """A source; of a folder on this machine, the weights in it. Raises `SourceError` where a folder has none."""
    text = source.removeprefix("file://")
    spellings = (text, unquote(text)) if source.startswith("file://") else ()
    folder = next((path for path in map(os.path.expanduser, spellings) if os.path.isdir(path)), None)
    if folder is None:
        return source
    for name in IN_A_FOLDER:
        if os.path.isfile(os.path.join(folder, name)):
            return f"file://{os.path.join(folder, name)}"
    raise SourceError(
        f"{source} is a folder, with none of {', '.join(IN_A_FOLDER)} in it",
        asked=os.path.abspath(folder),
        fix=f'checkpoint="{newest}"' if (newest := _newest(folder)) else "the weights file itself",
    )


def _newest(folder: str) -> str:
    """The path of the newest checkpoint in a training run's folder; empty for any other folder, or a file."""
    from zoo.checkpoints.training.folders import list_checkpoints  # needs torch, as few errors do

    with suppress(CheckpointError):
        for checkpoint in reversed(list_checkpoints(folder)):
            return os.path.join(folder if os.path.dirname(folder) else f"./{folder}", checkpoint.name)
    return ""


def resolve(ref: str) -> Resolved:
    """What a reference leads to. The error for what is a folder on this machine says how to name that.

    Raises:
        RefError, NotFoundError, AmbiguousNameError, PluginError: as `Catalog.resolve`.
    """
    try:
        return open_catalog().resolve(ref)
    except (RefError, NotFoundError) as error:
        if isinstance(ref, str) and is_file(ref) and os.path.isdir(os.path.expanduser(ref)):
            error.fix = f'zoo.create("file://{_newest(os.path.expanduser(ref)) or ref}")'
        raise


def is_file(checkpoint: str | PathLike[str]) -> bool:
    """Whether a checkpoint is a file rather than a name: names have neither dots nor slashes."""
    return not isinstance(checkpoint, str) or "/" in checkpoint or "." in checkpoint
