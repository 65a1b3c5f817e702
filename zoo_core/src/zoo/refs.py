"""References: how a model is named.

    ref = [namespace "/"] name ["." checkpoint] ["@" version]

    swin_b    swin_b.ms_in22k_ft_in1k    detection/rtdetr_r50.coco    acme/swin_b.coco@2

Every part but the version is `[a-z0-9_]+`; the version is an integer without leading zeros. The grammar is
narrow on purpose: no two different strings name the same thing, and nothing needs escaping in a shell, a file
name or a URL. External references carry their scheme: `hf://org/repo[@revision]`, `file://path`. What stands behind
`local/` is a model of the user's own registry, with a grammar of its own: `zoo.versions.addresses`.
"""

from __future__ import annotations

from typing import NamedTuple

from zoo.errors import RefError

_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_DIGITS = frozenset("0123456789")
LOCAL = "local/"
EXTERNAL_SCHEMES = ("hf://", "file://", LOCAL)
MAX_LENGTH = 200
_EXAMPLE = "[namespace/]name[.checkpoint][@version], for example resnet50.a1_in1k"


class Ref(NamedTuple):
    """A parsed reference. `version` is the model's contract version, not a package version."""

    name: str
    namespace: str | None = None
    checkpoint: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        text = self.name if self.namespace is None else f"{self.namespace}/{self.name}"
        text += "" if self.checkpoint is None else f".{self.checkpoint}"
        return text + ("" if self.version is None else f"@{self.version}")


def parse(text: str) -> Ref:
    """Parse a reference. Raises `RefError` with a caret under the first character that does not fit."""
    if not isinstance(text, str):
        raise RefError("a reference is a string", asked=repr(text)[:MAX_LENGTH], fix=_EXAMPLE)
    if len(text) > MAX_LENGTH:
        raise RefError(
            f"a reference has at most {MAX_LENGTH} characters, this one {len(text)}",
            asked=text[:60] + "…",
            fix=_EXAMPLE,
        )
    at = 0
    namespace = checkpoint = version = None
    name, at = _word(text, at, "a model name")
    if text[at : at + 1] == "/":
        namespace = name
        name, at = _word(text, at + 1, "a model name after the '/'")
    if text[at : at + 1] == ".":
        checkpoint, at = _word(text, at + 1, "a checkpoint name after the '.'")
    if text[at : at + 1] == "@":
        version, at = _version(text, at + 1)
    if at < len(text):
        raise _fault(text, at, "this character does not belong in a reference")
    return Ref(name, namespace, checkpoint, version)


def is_external(text: str) -> bool:
    """Whether the text names something outside the catalogue, by an explicit scheme or in the registry."""
    return isinstance(text, str) and text.startswith(EXTERNAL_SCHEMES)


def _word(text: str, start: int, what: str) -> tuple[str, int]:
    end = start
    while end < len(text) and text[end] in _WORD:
        end += 1
    if end == start:
        raise _fault(text, start, f"expected {what}: lower-case letters, digits and '_'")
    return text[start:end], end


def _version(text: str, start: int) -> tuple[int, int]:
    end = start
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    digits = text[start:end]
    if not digits:
        raise _fault(text, start, "expected an integer version after the '@'")
    if digits[0] == "0":
        raise _fault(text, start, "a version is an integer from 1, without leading zeros")
    return int(digits), end


def _fault(text: str, at: int, why: str) -> RefError:
    # Control characters would move the caret, so they are shown as one replacement character each.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    error = RefError(
        f"not a valid reference: {why}\n    {shown}\n    {' ' * at}^",
        fix=_EXAMPLE,
    )
    return error
