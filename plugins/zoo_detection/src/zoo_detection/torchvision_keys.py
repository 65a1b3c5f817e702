"""Key maps of torchvision's detectors, the part that all on a feature pyramid share: its backbone and its FPN.

    backbone.body.layer1.0.conv1.weight       <->  backbone.encoder.layer1.0.conv1.weight, as the backbone says
    backbone.fpn.inner_blocks.0.0.weight      <->  neck.fpn.inner_blocks.0.0.weight
    backbone.fpn.inner_blocks.0.weight         ->  the same, of the files published before torchvision 0.13

A family adds the rules of its heads: `torchvision_keys(backbone, Rename(…), frozen=config.freeze_norm)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from zoo.checkpoints.keymap import Formerly, KeyMap, Piece, Pieces, Prefix, Rule, StateMap
from zoo.errors import UnsupportedError
from zoo.models.model import Backbone

BODY = "backbone.body."
PUBLISHED = ("backbone.", "rpn.", "roi_heads.", "head.classification_head.", "head.regression_head.")
"""What the names in torchvision's files of detectors begin with."""

_COUNTER = "num_batches_tracked"


def torchvision_keys(
    backbone: Backbone, *heads: Rule, frozen: bool = False, inside: str = ""
) -> Mapping[str, StateMap]:
    """The format `torchvision` of a detector that holds `backbone` and `neck`; none where the backbone has none.

    Args:
        heads: what the family's heads are called, and by older files were.
        frozen: write no counters of batch norm, as torchvision's frozen ones have none.
        inside: what the names in `backbone.body.` begin with in a file of the backbone alone: `features.`
    """
    keys = backbone.key_maps().get("torchvision")
    if keys is None:
        return {}
    body = PartOf(BODY, "backbone.", keys, inside)
    return {"torchvision": KeyMap(OnlyPublished(PUBLISHED), *heads, *FPN_KEYS, Counters(BODY, kept=not frozen), body)}


class OnlyPublished:
    """Nothing is written that the format has no name for: a neck or a head of which no such file was ever published.

    It stands first in a map, and so comes last when that saves. What is read it leaves as it is.

    Args:
        beginnings: of the published names.
    """

    def __init__(self, beginnings: tuple[str, ...]) -> None:
        self.beginnings = beginnings

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return pieces

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published. Raises `UnsupportedError` for a name that is not published."""
        strange = [name for name in pieces if not name.startswith(self.beginnings)]
        if strange:
            raise UnsupportedError(
                "nobody publishes such a model in this format: it has no names for some of its parts",
                found=", ".join(strange[:3]) + (f" … {len(strange)} in all" if len(strange) > 3 else ""),
                fix='format="native"',
            )
        return pieces


class Counters:
    """Batch norm's counters of batches, which files of frozen norms lack: 0, and written only where `kept`.

    Args:
        prefix: published beginning of the names this looks at.
    """

    def __init__(self, prefix: str, *, kept: bool) -> None:
        self.prefix, self.kept = prefix, kept

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        counted = dict(pieces)
        for name, piece in pieces.items():
            if name.startswith(self.prefix) and name.endswith(".running_var"):
                zero = torch.zeros((), dtype=torch.int64, device=piece.tensor.device)
                counted.setdefault(name.removesuffix("running_var") + _COUNTER, Piece(zero, piece.origin))
        return counted

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        if self.kept:
            return pieces
        return {
            name: piece
            for name, piece in pieces.items()
            if not (name.startswith(self.prefix) and name.endswith(f".{_COUNTER}"))
        }


class PartOf:
    """A part's own key map, for the names of a whole file that begin with `published`; here they begin with `native`.

    Args:
        keys: the part's map. inside: what its names begin with in a file of the part alone, and not in this one.
    """

    def __init__(self, published: str, native: str, keys: StateMap, inside: str = "") -> None:
        self.published, self.native, self.keys, self.inside = published, native, keys, inside

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        origins = {self._in_part(name): piece.origin for name, piece in pieces.items() if self._is_mine(name)}
        mine = {self._in_part(name): piece.tensor for name, piece in pieces.items() if self._is_mine(name)}
        state = self.keys.load(mine)
        skipped.update({origins.get(name, name): why for name, why in state.skipped.items()})
        loaded = {name: piece for name, piece in pieces.items() if not self._is_mine(name)}
        for name, tensor in state.tensors.items():
            origin = state.origins.get(name, name)
            loaded[self.native + name] = Piece(tensor, origins.get(origin, origin), state.adapted.get(name, ""))
        return loaded

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        mine = {n.removeprefix(self.native): p.tensor for n, p in pieces.items() if n.startswith(self.native)}
        saved = {name: piece for name, piece in pieces.items() if not name.startswith(self.native)}
        for name, tensor in self.keys.save(mine).items():
            published = self.published + name.removeprefix(self.inside)
            saved[published] = Piece(tensor, published)
        return saved

    def _is_mine(self, name: str) -> bool:
        return name.startswith(self.published)

    def _in_part(self, name: str) -> str:
        return self.inside + name.removeprefix(self.published)


FPN_KEYS = (
    Formerly(r"backbone.fpn.(inner|layer)_blocks.(\d+).(weight|bias)", r"backbone.fpn.\1_blocks.\2.0.\3"),
    Prefix("backbone.fpn.", "neck.fpn."),
)
