"""What `zoo` says where no command is run: the overview, a command's help page, the version, a misspelt command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zoo.cli import COMMANDS, command_module
from zoo.cli.arguments import Command, UsageError, nearest
from zoo.cli.terminal import styled, table, wrapped

TITLE = "The zoo: computer-vision models as plugins."
START = (
    ("zoo predict mobilenetv2 cat.jpg", "what is in the photo"),
    ('zoo list "*resnet*"', "the models whose name has resnet in it"),
    ("zoo info resnet50", "its size, licence, checkpoints and accuracy"),
)
ANYWHERE = (
    ("-h, --help", "this page, or that of a command"),
    ("--version", "the version"),
    ("--no-plugins", "do as if no plugin were installed"),
    ("ZOO_DEBUG=1", "in the environment: show the traceback of an error"),
)


def other_than_a_command(name: str, words: Sequence[str]) -> int:
    """Answer a first word that is not one of `COMMANDS`: a request for help, a plugin's command, or a mistake."""
    if name in ("-h", "--help"):
        print_overview()
        return 0
    if name == "help":
        return _help(words)
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(f"zoo {version('zoo-core')}")
        return 0
    if name.startswith("-"):
        raise _unknown(name, ["--help", "--version", "--no-plugins"], "option")
    from zoo.cli.contributed import contributed_commands, run_contributed

    commands = contributed_commands()
    if name in commands:
        return run_contributed(commands[name], words)
    raise _unknown(name, [*COMMANDS, *commands, "help"], "command")


def print_overview(contributed: Iterable[tuple[str, str]] = ()) -> None:
    """The page of `zoo` and `zoo --help`."""
    print(f"{TITLE}\n")
    print(styled("usage: ", "bold") + "zoo COMMAND [options]\n")
    table([*COMMANDS.items()], heading=False, indent="  ")
    if contributed:
        print("\n" + styled("from plugins:", "bold"))
        table([*contributed], heading=False, indent="  ")
    print("\n" + styled("to begin with:", "bold"))
    table(START, heading=False, indent="  ")
    print("\n" + styled("anywhere:", "bold"))
    table(ANYWHERE, heading=False, indent="  ")
    print("\nzoo COMMAND --help tells more about one of them; zoo help --all lists the commands of plugins too.")


def print_command_help(command: Command, summary: str) -> int:
    """The page of one command, which does what the summary says."""
    print(styled("usage: ", "bold") + command.usage + "\n")
    print(wrapped(f"{summary[:1].upper()}{summary[1:]}."))
    for note in command.notes:
        print("\n" + wrapped(note))
    if command.options:
        print("\n" + styled("options:", "bold"))
        rows = [(_shown(option.short, option.name, option.value), option.help) for option in command.options]
        table(rows, heading=False, indent="  ")
    if command.examples:
        print("\n" + styled("examples:", "bold"))
        table(command.examples, heading=False, indent="  ")
    return 0


def _help(words: Sequence[str]) -> int:
    if not words:
        print_overview()
    elif words[0] == "--all":
        from zoo.cli.contributed import contributed_commands

        print_overview([(name, command.summary) for name, command in sorted(contributed_commands().items())])
    elif words[0] in COMMANDS:
        return print_command_help(command_module(words[0]).COMMAND, COMMANDS[words[0]])
    else:
        return _help_of_contributed(words[0])
    return 0


def _help_of_contributed(name: str) -> int:
    from zoo.cli.contributed import contributed_commands, run_contributed

    commands = contributed_commands()
    if name not in commands:
        raise _unknown(name, [*COMMANDS, *commands], "command")
    return run_contributed(commands[name], ["--help"])


def _shown(short: str, name: str, value: str) -> str:
    return (f"{short}, " if short else "") + name + (f" {value}" if value else "")


def _unknown(word: str, known: Iterable[str], what: str) -> UsageError:
    near = nearest(word, known)
    return UsageError(
        f"zoo has no {what} {word!r}" + (f"; did you mean {near!r}?" if near else ""),
        fix=f"zoo {near} --help" if near and what == "command" else "zoo --help",
    )
