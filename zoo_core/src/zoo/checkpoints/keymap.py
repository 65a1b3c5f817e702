"""Key maps: a published file's names and layouts ↔ ours, as small reversible tables.

    TORCHVISION_KEYS = KeyMap(
        Rename(r"features.(\\d+).(.+)", r"stages.\\1.\\2"),
        Split(r"stages.(\\d+).qkv.(weight|bias)", (r"stages.\\1.q.\\2", r"stages.\\1.k.\\2", r"stages.\\1.v.\\2")),
        Drop(r"head_aux.*", "used in training only"),
    )

Rules are applied in order, each to what the one before left; saving undoes them in reverse order. Patterns that
rename (`zoo.checkpoints.patterns`) are literal text with groups, so each is read in both directions; patterns that
only choose (`Transpose`, `Scale`, `Reshape`, `Drop`) are regular expressions for the whole name.

Maps run on meta tensors as on real ones, so a structure can be checked before anything is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zoo.checkpoints.patterns import Form, pattern, template
from zoo.errors import FormatError


class MappedState(NamedTuple):
    """A published file in our names.

    tensors: by native name. skipped: published names left out on purpose, with why. adapted: native names whose
    values were changed on the way, with how. origins: the published name or names behind each native one.
    """

    tensors: dict[str, Tensor]
    skipped: dict[str, str]
    adapted: dict[str, str]
    origins: Mapping[str, str] = MappingProxyType({})


class StateMap(Protocol):
    """What translates between a published format and a model's own state dict."""

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native. Raises `FormatError` where the file does not fit the map."""
        ...

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → published."""
        ...


class Piece(NamedTuple):
    """A tensor on its way through the rules. origin: its names before. how: what was changed, in words."""

    tensor: Tensor
    origin: str
    how: str = ""

    def changed(self, tensor: Tensor, how: str) -> Piece:
        """With another tensor, and how it came about."""
        return Piece(tensor, self.origin, f"{self.how}, {how}" if self.how else how)


Pieces = dict[str, Piece]


class Rule(Protocol):
    """One row of a key map. A rule gives new pieces and leaves what it was given alone."""

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native; what is left out goes to `skipped` with why."""
        ...

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        ...


class KeyMap:
    """Rules in order. An empty map leaves everything as it is."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native. Raises `FormatError` if two names fall together or a fused tensor does not fit."""
        skipped: dict[str, str] = {}
        pieces = {name: Piece(tensor, name) for name, tensor in tensors.items()}
        for rule in self.rules:
            pieces = rule.load(pieces, skipped)
        return MappedState(
            {name: piece.tensor for name, piece in pieces.items()},
            skipped,
            {name: piece.how for name, piece in pieces.items() if piece.how},
            {name: piece.origin for name, piece in pieces.items()},
        )

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → published; what `Drop` left out stays out."""
        pieces = {name: Piece(tensor, name) for name, tensor in tensors.items()}
        for rule in reversed(self.rules):
            pieces = rule.save(pieces)
        return {name: piece.tensor for name, piece in pieces.items()}


class Prefix:
    """Names that begin with `published` begin with `native` instead. `unless`: native beginnings left alone.

    `Prefix("vit.", "", unless=("head.",))` strips `vit.`, and on saving adds it to all but the head.
    """

    def __init__(self, published: str, native: str, *, unless: Sequence[str] = ()) -> None:
        self.published, self.native, self.unless = published, native, tuple(unless)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _renamed((self._turned(name, self.published, self.native), name, p) for name, p in pieces.items())

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _renamed((self._turned(name, self.native, self.published), name, p) for name, p in pieces.items())

    def _turned(self, name: str, old: str, new: str) -> str:
        if not name.startswith(old) or name.startswith(self.unless):
            return name
        return new + name[len(old) :]


class Rename:
    """Names of the form `published` take the form `native`."""

    def __init__(self, published: str, native: str) -> None:
        self.published = pattern(published)
        self.native = template(native, self.published.groups)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _renamed((_turned(name, self.published, self.native), name, p) for name, p in pieces.items())

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _renamed((_turned(name, self.native, self.published), name, p) for name, p in pieces.items())


class Formerly:
    """A name that older files have in place of the published one; saving writes the published one."""

    def __init__(self, older: str, published: str) -> None:
        self.rename = Rename(older, published)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Older → published."""
        return self.rename.load(pieces, skipped)

    def save(self, pieces: Pieces) -> Pieces:
        """Published, as they are."""
        return pieces


class Renumber:
    """Names of that form, with `by` added to the number in the first group: `layers.3` → `layers.4`."""

    def __init__(self, published: str, by: int) -> None:
        self.form, self.by = pattern(published), by

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _renamed((self._moved(name, self.by), name, p) for name, p in pieces.items())

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _renamed((self._moved(name, -self.by), name, p) for name, p in pieces.items())

    def _moved(self, name: str, by: int) -> str:
        values = self.form.read(name)
        if values is None or int(values[0]) + by < 0:
            return name
        return self.form.fill((str(int(values[0]) + by), *values[1:]))


class Split:
    """A fused published tensor → several of ours, cut along `dim` into equal parts, or into `sizes`."""

    def __init__(self, published: str, native: Sequence[str], *, dim: int = 0, sizes: Sequence[int] = ()) -> None:
        self.whole = pattern(published)
        self.parts = [template(text, self.whole.groups) for text in native]
        self.dim, self.sizes = dim, tuple(sizes)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _cut(pieces, self.whole, self.parts, self.dim, self.sizes)

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _joined(pieces, self.whole, self.parts, self.dim)


class Merge:
    """Several published tensors → one of ours, joined along `dim`; saving cuts it into equal parts, or `sizes`."""

    def __init__(self, published: Sequence[str], native: str, *, dim: int = 0, sizes: Sequence[int] = ()) -> None:
        self.parts = [pattern(text) for text in published]
        self.whole = template(native, self.parts[0].groups)
        if any(part.groups != self.whole.groups for part in self.parts):
            raise FormatError("the parts of a merge have the same groups in the same order", asked=", ".join(published))
        self.dim, self.sizes = dim, tuple(sizes)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _joined(pieces, self.whole, self.parts, self.dim)

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _cut(pieces, self.whole, self.parts, self.dim, self.sizes)


class Transpose:
    """Dimensions in another order: native dimension i is the published dimension `dims[i]`; by default reversed."""

    def __init__(self, names: str, dims: Sequence[int] = ()) -> None:
        self.names, self.dims = Chosen(names), tuple(dims)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _each(pieces, self.names, lambda t: t.permute(self._order(t)).contiguous(), "transposed")

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _each(pieces, self.names, lambda t: t.permute(_inverse(self._order(t))).contiguous())

    def _order(self, tensor: Tensor) -> tuple[int, ...]:
        return self.dims or tuple(range(tensor.dim() - 1, -1, -1))


class Reshape:
    """Another shape for the same values, as a linear layer kept as a 1x1 convolution has. One -1 may stand in each."""

    def __init__(self, names: str, published: Sequence[int], native: Sequence[int]) -> None:
        self.names, self.published, self.native = Chosen(names), tuple(published), tuple(native)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _each(pieces, self.names, lambda t: t.reshape(self.native), "reshaped")

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _each(pieces, self.names, lambda t: t.reshape(self.published))


class Scale:
    """Values times `factor`. Exact in both directions for powers of two; otherwise to rounding."""

    def __init__(self, names: str, factor: float) -> None:
        self.names, self.factor = Chosen(names), factor

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return _each(pieces, self.names, lambda t: t * self.factor, f"scaled by {self.factor:g}")

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return _each(pieces, self.names, lambda t: t / self.factor)


class Drop:
    """Published tensors we leave out, and why. They do not come back on saving."""

    def __init__(self, names: str, why: str) -> None:
        self.names, self.why = Chosen(names), why

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        skipped.update({piece.origin: self.why for name, piece in pieces.items() if name in self.names})
        return {name: piece for name, piece in pieces.items() if name not in self.names}

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return pieces


class Chosen:
    """The names that a regular expression matches whole: `name in chosen`."""

    def __init__(self, names: str) -> None:
        self.text = names

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Compiled on first use: most maps of a plugin are imported and never run."""
        return re.compile(self.text)

    def __contains__(self, name: str) -> bool:
        return self.regex.fullmatch(name) is not None


def _turned(name: str, old: Form, new: Form) -> str:
    values = old.read(name)
    return name if values is None else new.fill(values)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _renamed(names: Iterable[tuple[str, str, Piece]]) -> Pieces:
    renamed: Pieces = {}
    for new, _, piece in names:
        if new in renamed:
            raise _collision(new, renamed[new], piece)
        renamed[new] = piece
    return renamed


def _collision(name: str, first: Piece, second: Piece) -> FormatError:
    return FormatError(
        f"two tensors of the file would both be {name!r}",
        found=f"{first.origin} and {second.origin}",
        fix="check that the file has the format that was named: format=…",
    )


def _each(pieces: Pieces, names: Chosen, change: Callable[[Tensor], Tensor], how: str = "") -> Pieces:
    changed = dict(pieces)
    for name, piece in pieces.items():
        if name in names:
            try:
                changed[name] = piece.changed(change(piece.tensor), how)
            except RuntimeError as error:
                raise _misfit(name, piece.tensor, str(error)) from error
    return changed


def _cut(pieces: Pieces, whole: Form, parts: Sequence[Form], dim: int, sizes: Sequence[int]) -> Pieces:
    cut: list[tuple[str, str, Piece]] = []
    for name, piece in pieces.items():
        values = whole.read(name)
        if values is None:
            cut.append((name, name, piece))
            continue
        tensor = piece.tensor
        extent = tensor.shape[dim] if -tensor.dim() <= dim < tensor.dim() else -1
        lengths = sizes or [extent // len(parts)] * len(parts)
        if len(lengths) != len(parts) or sum(lengths) != extent:
            raise _misfit(name, tensor, f"dimension {dim} is not cut into {len(parts)} parts")
        for i, (part, slab) in enumerate(zip(parts, torch.split(tensor, list(lengths), dim), strict=True)):
            cut.append((part.fill(values), name, piece.changed(slab.contiguous(), f"part {i + 1} of {len(parts)}")))
    return _renamed(cut)


def _joined(pieces: Pieces, whole: Form, parts: Sequence[Form], dim: int) -> Pieces:
    found: dict[tuple[str, ...], dict[int, Piece]] = {}
    places: list[tuple[str, tuple[str, ...] | None]] = []
    for name, piece in pieces.items():
        part, values = next(((i, v) for i, form in enumerate(parts) if (v := form.read(name)) is not None), (0, None))
        if values is None:
            places.append((name, None))
            continue
        if values not in found:
            places.append((whole.fill(values), values))
        found.setdefault(values, {})[part] = piece
    return _renamed(
        (name, name, pieces[name] if values is None else _join(name, found[values], parts, values, dim))
        for name, values in places
    )


def _join(name: str, found: Mapping[int, Piece], parts: Sequence[Form], values: Sequence[str], dim: int) -> Piece:
    missing = [parts[i].fill(values) for i in range(len(parts)) if i not in found]
    if missing:
        raise FormatError(
            f"{name!r} is joined from {len(parts)} tensors, and the file lacks some",
            found=", ".join(piece.origin for piece in found.values()),
            asked=", ".join(missing),
        )
    pieces = [found[i] for i in range(len(parts))]
    try:
        joined = torch.cat([piece.tensor for piece in pieces], dim)
    except (RuntimeError, IndexError) as error:
        raise _misfit(name, pieces[0].tensor, str(error)) from error
    return Piece(joined, ", ".join(piece.origin for piece in pieces), f"joined from {len(parts)}")


def _misfit(name: str, tensor: Tensor, why: str) -> FormatError:
    return FormatError(
        f"{name!r} does not fit its key map: {why}",
        found=f"shape {tuple(tensor.shape)}",
        fix="check that the file has the format that was named: format=…",
    )
