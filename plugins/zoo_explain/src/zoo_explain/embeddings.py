"""Vectors of image files, computed once: kept by the content of the weights and of the image.

A vector is a file of its own, `embeddings/<model>/<image>` in the zoo's home: the SHA-256 of the rest, then a numpy
array. It is written aside and renamed; what does not match its digest is computed again.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from zoo import Backbone, Classifier, InputError, Preprocessor
from zoo.models.images import LoadedImage, iter_images
from zoo.models.model import evaluating
from zoo.paths import home

FORMAT = 1
THUMBNAIL = 16
"""Pixels along a side of the small grey pictures that a probe is held against."""

Vectors = dict[str, np.ndarray]
"""Digest of an image file → its vector (D,), float32."""
Images = Sequence[tuple[str, str]]
"""(path, digest) of image files."""


class VectorStore:
    """The vectors of one way of making them. Where the folder cannot be written nothing is kept, and nothing fails."""

    def __init__(self, key: str) -> None:
        self.folder = os.path.join(home(), "embeddings", key)

    def get(self, digest: str) -> np.ndarray | None:
        """A vector (D,), float32; None if there is none, or a damaged one."""
        try:
            with open(self._path(digest), "rb") as file:
                content = file.read()
        except OSError:
            return None
        told, data = content[:32], content[32:]
        if sha256(data).digest() != told:
            return None
        vector: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        return vector

    def put(self, digest: str, vector: np.ndarray) -> None:
        """Keep a vector, whole or not at all."""
        buffer = io.BytesIO()
        np.save(buffer, vector, allow_pickle=False)
        path = self._path(digest)
        aside = f"{path}.{secrets.token_hex(4)}.tmp"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(aside, "xb") as file:
                file.write(sha256(buffer.getvalue()).digest() + buffer.getvalue())
            os.replace(aside, path)
        except OSError:
            if os.path.exists(aside):
                os.unlink(aside)

    def _path(self, digest: str) -> str:
        return os.path.join(self.folder, digest[:2], digest[2:])


def model_key(model: Classifier | Backbone) -> str:
    """A digest of all that decides a model's embeddings: class, config, input, precision and every weight's value.

    Not its provenance, which a model keeps while it is trained further.
    """
    cls = type(model)
    about = {
        "format": FORMAT,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "config": model.config.model_dump(mode="json"),
        "input": model.input_spec.to_dict(),
        "version": model.provenance.plugin_version if model.provenance else "",
    }
    digest = sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def embeddings(
    model: Classifier | Backbone,
    images: Images,
    *,
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[Vectors, dict[str, str], int]:
    """The model's own embedding of every image file.

    Args:
        advance: told how many images are done.

    Returns:
        The vectors; path → why, of files that are no images; how many vectors were computed now.
    """
    reference = next(model.parameters())
    preprocess = Preprocessor(model.input_spec)

    def embed(loaded: list[LoadedImage]) -> Tensor:
        batch, _ = preprocess(loaded)
        return model.embed(batch.to(reference.device, reference.dtype))

    with evaluating(model), torch.inference_mode():
        return _vectors(VectorStore(model_key(model)), images, embed, batch_size, advance)


def thumbnails(images: Images, advance: Callable[[int], None] = lambda done: None) -> tuple[Vectors, dict[str, str]]:
    """Every image as THUMBNAIL * THUMBNAIL grey values in [0, 1] in one row; and path → why, of files that are none."""
    side = THUMBNAIL

    def shrink(loaded: list[LoadedImage]) -> Tensor:
        small = [image.photo().convert("L").resize((side, side)) for image in loaded]
        return torch.stack([torch.from_numpy(np.asarray(one, np.float32).reshape(-1) / 255) for one in small])

    vectors, unusable, _ = _vectors(VectorStore(f"grey-{side}-{FORMAT}"), images, shrink, 64, advance)
    return vectors, unusable


def _vectors(
    store: VectorStore,
    images: Images,
    make: Callable[[list[LoadedImage]], Tensor],
    batch_size: int,
    advance: Callable[[int], None],
) -> tuple[Vectors, dict[str, str], int]:
    """What the store has, and the rest made in batches."""
    vectors: Vectors = {}
    missing = []
    for path, digest in images:
        kept = store.get(digest)
        if kept is None:
            missing.append((path, digest))
        else:
            vectors[digest] = kept
    unusable: dict[str, str] = {}
    usable = _loaded(missing, unusable)
    done = len(images) - len(missing)
    while chunk := list(islice(usable, batch_size)):
        made = make([image for _, image in chunk]).float().cpu().numpy()
        for (digest, _), vector in zip(chunk, made, strict=True):
            vectors[digest] = vector
            store.put(digest, vector)
        done += len(chunk)
        advance(done)
    return vectors, unusable, len(missing) - len(unusable)


def _loaded(images: Images, unusable: dict[str, str]) -> Iterator[tuple[str, LoadedImage]]:
    """(digest, image), opened when its turn comes; why the others cannot be goes to `unusable`."""
    for path, digest in images:
        try:
            (image,) = iter_images(path)
        except InputError as error:
            unusable[path] = error.message
        else:
            yield digest, image
