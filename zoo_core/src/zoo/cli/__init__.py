"""The `zoo` command.

This module imports next to nothing: it finds the module of the command, lets it read its arguments, runs it, and
turns every way of ending into an exit code: 0 done, 1 failed, 2 wrongly asked, 130 interrupted, 141 nobody reads.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing itself would cost a sixth of the time `zoo list` may take
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from zoo.cli.arguments import Arguments, Command

    class CommandModule(Protocol):
        """What every command's module offers: how it is called, and what it does; the result is the exit code."""

        COMMAND: Command

        @staticmethod
        def run(arguments: Arguments) -> int: ...


COMMANDS = {
    "predict": "say what is in a photo, with real weights",
    "list": "the models there are",
    "info": "everything known about one model",
    "recommend": "which model suits, and why",
    "plugins": "the plugins there are, and how they are",
    "doctor": "find out what is wrong with a plugin, and how to mend it",
    "plugin": "compile and check a plugin of your own",
    "alias": "your own short names for models",
    "registry": "the versions of your own models",
    "cache": "the weights on this machine: list, check, mend, clear up",
    "lock": "write down what references mean, or check that they still do",
    "fetch": "models' files into the store, or a folder to carry elsewhere",
    "bundle": "models' files in one zip, for a machine without network",
    "pull": "fetch the very files that a lock names",
    "licenses": "the licences of models, for your application",
}
"""Every command and what it does, in the order of the help page. Each is the module of its name in this package."""

FAILED, MISUSED, INTERRUPTED, UNREAD = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default this process's) and return its exit code. Never raises."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _print_anything()
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has what it wants, as in `zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit does not complain either
        return UNREAD
    except Exception as error:
        from zoo.cli.faults import report

        return report(error, as_json="--json" in words)


def _run(words: list[str]) -> int:
    options = words[: words.index("--")] if "--" in words else words
    if "--no-plugins" in options:
        words.remove("--no-plugins")
        os.environ["ZOO_NO_PLUGINS"] = "1"
    name = words[0] if words else "help"
    if name not in COMMANDS:
        from zoo.cli.front import other_than_a_command

        return other_than_a_command(name, words[1:])
    module = command_module(name)
    if asks_for_help(words):
        from zoo.cli.front import print_command_help

        return print_command_help(module.COMMAND, COMMANDS[name])
    from zoo.cli.arguments import read

    return module.run(read(module.COMMAND, words[1:]))


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command's help page is wanted instead of the command."""
    options = words[: words.index("--")] if "--" in words else words
    return "-h" in options or "--help" in options


def command_module(name: str) -> CommandModule:
    """The module of one of `COMMANDS`."""
    # importlib would have to be imported itself.
    module: CommandModule = __import__(f"zoo.cli.{name}", fromlist=["run"])  # type: ignore[assignment]  # a test holds them to it
    return module


def _print_anything() -> None:
    """A file name or a foreign word never stops the output: what the terminal cannot show is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's or an embedder's stream need not be a text file
            stream.reconfigure(errors="backslashreplace")
