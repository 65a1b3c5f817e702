"""How a command line is read: a command declares its operands and options as data, `read` checks one line by it.

Own code instead of argparse, for two reasons: a misspelt option gets a suggestion, and `zoo list` as a whole may
take no longer than importing argparse and a few modules beside it.
"""

from __future__ import annotations

from zoo.errors import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class UsageError(OptionError):
    """A command line that cannot be understood; the command ends with exit code 2."""

    code = "usage"


class Option:
    """One option of a command.

    name: with its dashes, `--license`. value: what follows it, as the help page names it; empty for a switch.
    help: one line. short: `-k`. repeat: it may be given several times.
    """

    __slots__ = ("help", "name", "repeat", "short", "value")

    def __init__(self, name: str, help: str, *, value: str = "", short: str = "", repeat: bool = False) -> None:
        self.name, self.help, self.value, self.short, self.repeat = name, help, value, short, repeat


class Command:
    """How one command is called.

    operands: their names in order; `?` at the end of one means it may be absent, `…` that there may be several.
    notes: paragraphs for its help page. examples: whole command lines with what each does.
    """

    __slots__ = ("examples", "name", "notes", "operands", "options")

    def __init__(
        self,
        name: str,
        *,
        operands: Sequence[str] = (),
        options: Sequence[Option] = (),
        notes: Sequence[str] = (),
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name, self.operands, self.options = name, operands, options
        self.notes, self.examples = notes, examples

    @property
    def usage(self) -> str:
        """`zoo predict MODEL INPUT… [options]`"""
        shown = [f"[{word.rstrip('?')}]" if "?" in word else word for word in self.operands]
        return " ".join(["zoo", self.name, *shown, *(["[options]"] if self.options else [])])


class Arguments:
    """One command line, read. Options are asked for by their name without dashes."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.operands: list[str] = []
        self._values: dict[str, list[str]] = {}

    def add(self, option: Option, value: str) -> None:
        """Note one occurrence of an option."""
        self._values.setdefault(option.name, []).append(value)

    def flag(self, name: str) -> bool:
        """Whether a switch is given."""
        return f"--{name}" in self._values

    def texts(self, name: str) -> list[str]:
        """Every value of an option that may be repeated; commas separate too, with spaces around them or without."""
        parts = [part.strip() for value in self._values.get(f"--{name}", []) for part in value.split(",")]
        return [part for part in parts if part]

    def text(self, name: str) -> str | None:
        """The value of an option; the last one counts."""
        values = self._values.get(f"--{name}")
        return values[-1] if values else None

    def number(self, name: str, default: int, *, least: int = 1) -> int:
        """The value of an option as a whole number, at least `least`."""
        value = self.text(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            raise UsageError(f"--{name} takes a whole number from {least}", asked=value, fix=f"--{name} {default}")
        return number


def read(command: Command, words: Sequence[str]) -> Arguments:
    """Check one command line, without the command's own name. Raises `UsageError`."""
    by_name = {option.name: option for option in command.options}
    by_name |= {option.short: option for option in command.options if option.short}
    arguments = Arguments(command)
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.operands += rest
        elif not word.startswith("-") or word == "-":
            arguments.operands.append(word)
        else:
            name, equals, value = word.partition("=")
            option = by_name.get(name)
            if option is None:
                raise _unknown(command, name, by_name)
            if equals and not option.value:
                raise UsageError(f"{option.name} takes no value", asked=word, fix=option.name)
            arguments.add(option, value if equals or not option.value else _next(option, rest))
    _check_operands(command, arguments.operands)
    return arguments


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word a misspelt one was meant to be, if any is near."""
    from difflib import get_close_matches  # only a mistake pays for it

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def _next(option: Option, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None or value.startswith("--"):  # a value that starts so is given as --option=--value
        raise UsageError(f"{option.name} needs a value", fix=f"{option.name} {option.value}")
    return value


def _unknown(command: Command, name: str, known: Iterable[str]) -> UsageError:
    near = nearest(name, known)
    return UsageError(
        f"zoo {command.name} has no option {name}" + (f"; did you mean {near}?" if near else ""),
        found=", ".join(option.name for option in command.options) or "it takes no options",
        fix=f"zoo {command.name} --help",
    )


def _check_operands(command: Command, operands: Sequence[str]) -> None:
    least = sum("?" not in word for word in command.operands)
    most = len(operands) if any("…" in word for word in command.operands) else len(command.operands)
    if len(operands) < least:
        missing = [word for word in command.operands if "?" not in word][len(operands)]
        raise UsageError(f"zoo {command.name} needs {missing}", found=command.usage, fix=f"zoo {command.name} --help")
    if len(operands) > most:
        raise UsageError(
            f"zoo {command.name} does not know what to do with {operands[most]!r}",
            found=command.usage,
            fix=f"zoo {command.name} --help",
        )
