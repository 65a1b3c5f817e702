"""Provenance: the identity of a model's weights. It travels in the metadata of every file the model is saved to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model came from.

    ref: the full reference, pinned (`cnn/resnet50.a1_in1k@1`) or the external one. distribution, plugin_version:
    the package that built it. source: the address the weights came from, with the revision. sha256: of the source
    file. license: of the weights; `unknown` where their publisher names none, empty where nobody published them: what
    the caller trained or gave is the caller's own to judge. pinned: `declared` if the digest stood in the catalogue,
    `first-use` if this machine recorded it when it first saw the file.
    """

    ref: str
    distribution: str = ""
    plugin_version: str = ""
    source: str = ""
    sha256: str = ""
    license: str = "unknown"
    pinned: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def to_json(self) -> str:
        """One canonical line, for safetensors metadata."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Inverse of `to_json`; fields of a newer zoo are ignored."""
        values = json.loads(text)
        return cls(**{name: str(values[name]) for name in cls.__dataclass_fields__ if name in values})
