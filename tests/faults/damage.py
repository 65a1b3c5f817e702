"""Damage to a file: one bit, a piece of it, its end; and whether what reads it then is right, or an error of ours."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from killing import Answer

from zoo.errors import ZooError

PATIENCE = 60  # seconds, for what takes milliseconds


class Damage(NamedTuple):
    """One way to spoil a file of `size` bytes: `kind` at byte `at`."""

    kind: str
    at: int

    def do(self, path: Path) -> None:
        """Spoil it in place, as a bad disk would."""
        os.chmod(path, 0o644)
        body = bytearray(path.read_bytes())
        if self.kind == "flip":
            body[self.at] ^= 1 << self.at % 8
        elif self.kind == "cut":
            del body[self.at :]
        elif self.kind == "zeros":
            end = min(self.at + 4096, len(body))
            body[self.at : end] = bytes(end - self.at)
        else:
            body += random.Random(self.at).randbytes(self.at % 300 + 1)
        with open(path, "r+b") as file:  # the same file: whoever knows it by its inode is not warned
            file.write(body)
            file.truncate(len(body))


def damages(size: int, count: int, dice: random.Random) -> list[Damage]:
    """That many ways, those at the file's ends more often than chance would have them."""
    kinds = ["flip", "cut", "flip", "zeros", "more"]
    if not size:
        return [Damage("more", 7)] * count
    ends = [Damage("cut", 0), Damage("cut", size - 1), Damage("flip", 0), Damage("flip", size - 1)]
    inside = [Damage(dice.choice(kinds), dice.randrange(size)) for _ in range(count)]
    return dice.sample(ends + inside, count)


def outcome(read: Callable[[], object], answer: Answer) -> None:
    """Answer `right`, or the kind of our error; anything else is what was wrong. A child's work: it may not survive."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whoever hangs is ended by it
    signal.alarm(PATIENCE)
    try:
        read()
    except ZooError as error:
        answer(type(error).__name__)
    else:
        answer("right")
    finally:
        signal.alarm(0)
