"""The `zoo` command as a person runs it: another process, its output and its exit code."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

EXECUTABLE = str(Path(sys.executable).with_name("zoo"))


class Outcome(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def zoo(
    *words: str,
    stdin: bytes = b"",
    site: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] = {},
    executable: str = EXECUTABLE,
) -> Outcome:
    """Run it to its end. site: a further folder of installed distributions, first on the path."""
    done = subprocess.run(
        [executable, *words], input=stdin, capture_output=True, cwd=cwd, env=_environment(site, env), timeout=300
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def zoo_on_a_terminal(*words: str, cwd: Path | None = None, env: Mapping[str, str] = {}, columns: int = 80) -> Outcome:
    """Run it on a terminal of its own; everything it writes comes as `out`."""
    master, slave = pty.openpty()
    settings = {"TERM": "xterm", "COLUMNS": str(columns), **env}
    process = subprocess.Popen(
        [EXECUTABLE, *words], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=_environment(None, settings)
    )
    os.close(slave)
    written, end = b"", time.monotonic() + 300
    while time.monotonic() < end:
        ready, _, _ = select.select([master], [], [], 1)
        try:
            piece = os.read(master, 65536) if ready else None
        except OSError:  # the other end is closed
            break
        if piece == b"":
            break
        written += piece or b""
    os.close(master)
    return Outcome(process.wait(10), written.decode().replace("\r\n", "\n"), "")


def _environment(site: Path | None, extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "PYTHONPATH")}
    return inherited | ({"PYTHONPATH": str(site)} if site else {}) | dict(extra)
