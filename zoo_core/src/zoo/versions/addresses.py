"""How a registered version is named.

    name ["@" selector]         my_model   my_model@1.2.0   my_model@^1.2   my_model@production   my_model@latest

A selector is a version, a range, `latest`, an alias or a tag. In a reference for `zoo.create`, `local/` stands before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zoo.errors import RefError
from zoo.refs import LOCAL

LATEST = "latest"
_NAME = re.compile(r"[a-z0-9_]{1,100}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)


class Address(NamedTuple):
    """A model's name, and which of its versions."""

    name: str
    selector: str = LATEST

    def __str__(self) -> str:
        return f"{self.name}@{self.selector}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """From `name[@selector]`, with or without `local/` before it. Raises `RefError`."""
        name, at, selector = text.removeprefix(LOCAL).partition("@")
        if at and not selector:
            raise RefError("no version after the '@'", asked=text[:200], fix=f"{name}@latest")
        return cls(checked_name(name), selector or LATEST)


def checked_name(name: str) -> str:
    """A registered model's name. Raises `RefError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RefError(
            "a registered model's name is lower-case letters, digits and '_'", asked=repr(name)[:120], fix="my_model"
        )
    return name


def is_word(selector: str) -> bool:
    """Whether a selector is an alias or a tag, rather than a version or a range."""
    return isinstance(selector, str) and selector[:1].isalpha()


def checked_word(word: str, what: str) -> str:
    """An alias or a tag. Raises `RefError`: it is not a word, or it is `latest`, which has a meaning already."""
    if not isinstance(word, str) or not _WORD.fullmatch(word) or word == LATEST:
        raise RefError(
            f"{what} is a word of lower-case letters, digits, '_' and '-', and not {LATEST!r}",
            asked=repr(word)[:120],
            fix="production",
        )
    return word
