"""The catalogue: one object that answers every question about which models there are."""

from __future__ import annotations

import sqlite3

from zoo.catalog.cache import forget, open_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from zoo.catalog.listing import Wanted
    from zoo.catalog.recommend_facts import Weights
    from zoo.catalog.records import ModelInfo, ModelRow, Resolved
    from zoo.plugin.state import PluginRecord

    T = TypeVar("T")


def open_catalog() -> Catalog:
    """The catalogue of what is installed now. Cheap: made anew only when something has changed."""
    return Catalog(open_cache())


class Catalog:
    """What is installed, and what could be, at the moment it was opened. Nothing of a plugin is imported."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def listing(self, wanted: Wanted) -> list[str]:
        """The matching models as text, ready for the terminal: pieces of whole aligned lines, each with its end."""
        from zoo.catalog.listing import lines

        return self._ask(lambda connection: lines(connection, wanted))

    def list_models(
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
    ) -> list[ModelRow]:
        """The matching models, installed or not. Criteria as in `zoo.catalog.listing.Wanted`.

        Raises `OptionError` where nothing matches because a criterion is misspelt.
        """
        from zoo.catalog.listing import Wanted, check_words, rows
        from zoo.catalog.records import ModelRow

        wanted = Wanted(
            pattern,
            task=task,
            plugin=plugin,
            license=license,
            max_params=max_params,
            tag=tag,
            kind=kind,
            installed=installed,
        )
        columns = "ref, namespace, name, task, kind, params, license, status, checkpoints, summary"
        found = self._ask(lambda connection: rows(connection, wanted, columns))
        if not found:
            self._ask(lambda connection: check_words(connection, wanted))
        return [ModelRow(*row) for row in found]  # type: ignore[arg-type]  # the columns are in its order

    def weights(self) -> list[Weights]:
        """Every set of published weights with what is known about it, installed or not: what a choice is made from."""
        from zoo.catalog.recommend_facts import all_weights

        return self._ask(all_weights)

    def plugins(self) -> list[PluginRecord]:
        """Every installed plugin, the ones set aside too."""
        from zoo.catalog.records import all_records

        return [record for record, status in self._ask(all_records) if status != "available"]

    def resolve(self, text: str, kinds: Sequence[str] = ("model", "backbone")) -> Resolved:
        """The model a reference means: a published name or the user's alias as a whole, else the grammar.

        Args:
            text: `resnet50`, `cnn/resnet50.a1_in1k@1`, `facebook/detr-resnet-50` …
            kinds: what is looked for; anything else of that name is no match.

        Raises:
            RefError: the text is no reference.
            NotFoundError: nothing of that name, with the nearest names, what provides it and how to install that.
            AmbiguousNameError: several first-party plugins provide the bare name.
            PluginError: the plugin that provides it is set aside; says why and what mends it.
        """
        from zoo.catalog.resolution import resolve

        return self._ask(lambda connection: resolve(connection, text, kinds))

    def info(self, text: str) -> ModelInfo:
        """Everything known about the model a reference means, also where its plugin is not installed or set aside.

        Raises as `resolve`, except that a plugin's state is part of the answer; `UnsupportedError` for external
        references.
        """
        from zoo.catalog.resolution import describe

        return self._ask(lambda connection: describe(connection, text))

    def suggest(self, text: str, count: int = 5) -> list[str]:
        """References near a misspelt one, the nearest first."""
        from zoo.catalog.suggestions import suggest

        return self._ask(lambda connection: suggest(connection, text, count))

    def first_party(self, name: str) -> str | None:
        """What a bare name means by itself, whatever the user's aliases: a full reference, or None."""
        from zoo.catalog.resolution import first_party

        return self._ask(lambda connection: first_party(connection, name))

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Answer from the file; where that turns out to be damaged, from one made anew."""
        try:
            return question(self._connection)
        except sqlite3.DatabaseError:
            forget(self._connection)
            self._connection = open_cache()
            return question(self._connection)
