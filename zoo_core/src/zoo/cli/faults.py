"""How a command that failed says so: the message, what was found and what to type next; never a traceback."""

from __future__ import annotations

import os
import sys

from zoo.cli import FAILED, MISUSED
from zoo.cli.terminal import clean, styled
from zoo.errors import OptionError, ZooError


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error to stderr, or as a JSON document to stdout, and return the exit code.

    `ZOO_DEBUG=1` shows the traceback as well.
    """
    if os.environ.get("ZOO_DEBUG", "0") not in ("", "0"):
        from traceback import print_exception

        print_exception(error)
    known = error if isinstance(error, ZooError) else unforeseen(error)
    if as_json:
        import json

        print(json.dumps({"error": known.to_dict()}, indent=2, ensure_ascii=False), flush=True)
    else:
        print_error(known)
    return MISUSED if isinstance(error, OptionError) else FAILED


def print_error(error: ZooError, about: str = "") -> None:
    """One error on stderr, after what it is about."""
    first, *more = error.message.split("\n")
    lines = [f"{styled('error:', 'red', sys.stderr)} {about}{': ' if about else ''}{clean(first)}"]
    lines += [clean(line) for line in more]  # the caret under the fault of a reference keeps its place
    lines += [f"  {styled('found:', 'dim', sys.stderr)} {clean(error.found)}"] if error.found else []
    for number, line in enumerate((error.fix or "").splitlines()):
        lines.append(f"  {styled('try:', 'green', sys.stderr) if number == 0 else '    '}   {clean(line)}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def unforeseen(error: Exception) -> ZooError:
    """An error nobody raised on purpose, in one line."""
    text = clean(str(error)) or "no more is known"
    return ZooError(f"unexpected {type(error).__name__}: {text}", fix="the same with ZOO_DEBUG=1 for the traceback")
