"""Near names: SQLite picks the few rows that share most letter pairs with what was typed, difflib ranks those."""

from __future__ import annotations

import sqlite3
from difflib import SequenceMatcher

CANDIDATES = 200
NEAR = 0.6
MAX_LENGTH = 80


def suggest(connection: sqlite3.Connection, text: str, count: int = 5) -> list[str]:
    """References near `text`, the nearest first; of equally near ones those that can be built."""
    typed = "".join(c for c in text.casefold().replace("-", "_") if c.isprintable())[:MAX_LENGTH]
    typed = typed.partition("@")[0]
    namespace, slash, rest = typed.rpartition("/")
    name = rest.partition(".")[0]
    if not name:
        return []
    scored = []
    for ref, candidate, installed in _candidates(connection, name):
        score = SequenceMatcher(None, name, candidate).ratio()
        # The right plugin for a misspelt name, and the right name in another plugin, are both worth showing.
        same_plugin = slash and ref.startswith(f"{namespace}/")
        if score >= NEAR:
            scored.append((-score - 0.1 * bool(same_plugin), not installed, len(ref), ref))
    return [ref for *_, ref in sorted(scored)[:count]]


def _candidates(connection: sqlite3.Connection, name: str) -> list[tuple[str, str, int]]:
    """(reference, name, installed) of the rows and published names that share most pairs of letters with `name`."""
    pairs = sorted({name[i : i + 2] for i in range(max(1, len(name) - 1))})
    shared = " + ".join(f"(instr(name, ?{i + 3}) > 0)" for i in range(len(pairs)))
    query = f"""
        SELECT coalesce(alias, ref), name, status = 'installed' FROM (
            SELECT id, NULL AS alias, name, plugin FROM models WHERE length(name) BETWEEN ?1 AND ?2
            UNION ALL
            SELECT first + model, alias, alias, plugin FROM aliases JOIN plugins ON plugins.id = plugin
                WHERE length(alias) BETWEEN ?1 AND ?2
        ) AS near JOIN plugins ON plugins.id = plugin JOIN details ON details.id = near.id
        ORDER BY {shared} - abs(length(name) - {len(name)}) / 2.0 DESC LIMIT {CANDIDATES}
    """
    least, most = round(len(name) * 0.5), len(name) * 2
    return connection.execute(query, [least, most, *pairs]).fetchall()
