"""Which models match, as SQL. Lines and rows are the same query; SQLite does the work."""

from __future__ import annotations

from zoo.catalog.counts import parse_count
from zoo.catalog.names import KINDS, WHOLE
from zoo.errors import OptionError

MAX_LENGTH = 200

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


class Wanted:
    """What a listing is of. Every criterion must hold; None asks nothing.

    pattern: shell-style, matched with the name, or with `namespace/name` if it has a slash.
    license: an SPDX id, or one of `zoo.catalog.licenses.CLASSES`. max_params: 25e6 or "25M"; models nobody has
        counted do not match. kind: None for models and backbones. installed: True
        only what can be created, False only what cannot.
    """

    def __init__(
        self,
        pattern: str = "*",
        *,
        task: str | None = None,
        plugin: str | None = None,
        license: str | None = None,
        max_params: float | str | None = None,
        tag: str | None = None,
        kind: str | None = None,
        installed: bool | None = None,
    ) -> None:
        texts = {"task": task, "plugin": plugin, "license": license, "tag": tag, "kind": kind}
        for name, value in {"pattern": pattern, **{n: v for n, v in texts.items() if v is not None}}.items():
            if not isinstance(value, str) or len(value) > MAX_LENGTH or not value.isprintable():
                raise OptionError(f"{name} is a short printable text", asked=repr(value)[:80], fix=f'{name}="…"')
        self.pattern, self.task, self.plugin, self.license = pattern, task, plugin, license
        self.max_params = None if max_params is None else parse_count(max_params)
        self.tag, self.kind, self.installed = tag, kind, installed

    @property
    def is_of_whole_plugins(self) -> bool:
        """Whether no criterion looks at a plugin's models one by one."""
        of_models = (self.task, self.license, self.max_params, self.tag, self.kind)
        return self.pattern.rpartition("/")[2] == "*" and all(value is None for value in of_models)

    def conditions(self) -> tuple[list[str], list[str | int]]:
        """The WHERE clause's parts, over `models` joined with `plugins`, and their values."""
        parts: list[str] = []
        values: list[str | int] = []

        def add(part: str, *given: str | int) -> None:
            parts.append(part)
            values.extend(given)

        if self.pattern != "*":
            namespace, slash, name = self.pattern.rpartition("/")
            if slash and namespace != "*":
                add("namespace GLOB ?", _glob(namespace))
            if name != "*":
                add("name GLOB ?", _glob(name))
        if self.plugin is not None:
            add("(namespace = ? OR distribution = ?)", self.plugin, self.plugin)
        if self.installed is not None:
            add("status = 'installed'" if self.installed else "status != 'installed'")
        if self.task is not None:
            add("task = ?", self.task)
        if self.kind is not None:
            add("kind = ?", self.kind)
        if self.license is not None:
            add("(license_class = ? OR license = ? COLLATE NOCASE)", self.license, self.license)
        if self.max_params is not None:
            add("params <= ?", self.max_params)
        if self.tag is not None:
            add("instr(tags, ?)", f"\n{self.tag}\n")
        return parts, values


_WHOLE = f"kind IN {WHOLE}"


def lines(connection: sqlite3.Connection, wanted: Wanted) -> list[str]:
    """The matching models' lines, in pieces of many, each line with its end."""
    parts, values = wanted.conditions()
    if wanted.is_of_whole_plugins:  # their texts are ready
        where = " AND ".join(parts) or "1"
        query = f"SELECT contents.lines FROM plugins JOIN contents ON plugin = plugins.id WHERE {where} ORDER BY id"
    else:
        query = f"SELECT group_concat(line, char(10)) || char(10) FROM ({_select('line', wanted, parts)})"
    return [text for (text,) in connection.execute(query, values) if text]


def rows(connection: sqlite3.Connection, wanted: Wanted, columns: str) -> list[tuple[str | int | None, ...]]:
    """The matching models' columns, in the catalogue's order: first-party names first, then by namespace."""
    parts, values = wanted.conditions()
    return connection.execute(_select(columns, wanted, parts), values).fetchall()


def check_words(connection: sqlite3.Connection, wanted: Wanted) -> None:
    """After a listing came out empty: raise `OptionError` if that was for a misspelt criterion."""
    from difflib import get_close_matches

    from zoo.catalog.licenses import CLASSES, is_known

    def known(query: str) -> list[str]:
        return [str(value) for (value,) in connection.execute(query)]

    tags = {tag for text in known("SELECT DISTINCT tags FROM details") for tag in text.split("\n") if tag}
    licenses = [*CLASSES, *known("SELECT DISTINCT license FROM details")]
    criteria: list[tuple[str, str | None, Iterable[str]]] = [
        ("task", wanted.task, known("SELECT DISTINCT task FROM models")),
        ("plugin", wanted.plugin, known("SELECT namespace FROM plugins UNION SELECT distribution FROM plugins")),
        ("license", None if wanted.license and is_known(wanted.license) else wanted.license, licenses),
        ("tag", wanted.tag, tags),
        ("kind", wanted.kind, KINDS),
    ]
    for option, value, choices in criteria:
        choices = sorted(choices)
        if value is None or value in choices or value.casefold() in map(str.casefold, choices):
            continue
        near = get_close_matches(value, choices, n=1)
        if near:
            raise OptionError(
                f"no model has the {option} {value!r}; did you mean {near[0]!r}?",
                asked=f"{option}={value}",
                found=", ".join(choices[:12]) + (" …" if len(choices) > 12 else ""),
                fix=near[0],
            )


def _select(columns: str, wanted: Wanted, parts: list[str]) -> str:
    where = " AND ".join(parts if wanted.kind is not None else [*parts, _WHOLE])
    # The join's order is given, because models in order of id need no sorting.
    joined = "models CROSS JOIN plugins ON plugins.id = plugin CROSS JOIN details ON details.id = models.id"
    return f"SELECT {columns} FROM {joined} WHERE {where} ORDER BY models.id"


def _glob(pattern: str) -> str:
    return pattern.replace("[!", "[^")  # SQLite's spelling of a negated class
