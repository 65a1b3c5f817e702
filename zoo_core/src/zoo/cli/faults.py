"""How a command that failed says so: the message, what was found and what to type next; never a traceback."""

from __future__ import annotations

import os
import sys

from zoo.cli import FAILED, MISUSED
from zoo.cli.terminal import clean, show_warnings_plainly, styled
from zoo.errors import LicenseError, OptionError, ZooError


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error to stderr, or as a JSON document to stdout, and return the exit code.

    `ZOO_DEBUG=1` shows the traceback as well.
    """
    if os.environ.get("ZOO_DEBUG", "0") not in ("", "0"):
        from traceback import print_exception

        print_exception(error)
    known = error if isinstance(error, ZooError) else unforeseen(error)
    if isinstance(known, LicenseError) and str(known.fix).startswith(
        "allow_licenses="
    ):  # the argument that accepts it is another one here
        known.fix = f'--allow-license "{known.found}", if you may use them so'
    if as_json:
        import json

        print(json.dumps({"error": known.to_dict()}, indent=2, ensure_ascii=False), flush=True)
    else:
        print_error(known)
        for hint in _hints(error):
            print(f"  {styled('hint:', 'green', sys.stderr)}  {clean(hint)}", file=sys.stderr, flush=True)
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


def _hints(error: Exception) -> list[str]:
    """What plugins say about an error. Nearly always none has anything to say, and none is imported."""
    try:
        from zoo.plugin.providers import providers

        if not providers("error_hint"):
            return []
        from zoo.plugin.hooks import call
        from zoo.plugin.hookspecs import ErrorHint

        show_warnings_plainly()
        return [str(hint) for hint in call("error_hint", ErrorHint(error))]
    except Exception:  # the error itself is told already, and what hinders the hints may be the same fault
        return []
