"""Near names: SQLite picks the few rows that share most letter pairs with what was typed, difflib ranks those."""

from __future__ import annotations

import sqlite3
from difflib import SequenceMatcher

from zoo.catalog.names import BARE

CANDIDATES = 200
NEAR, VERY_NEAR = 0.6, 0.9
CURATED = 0.05
"""What a short name of ours gains over one of thousands that timm or somebody else has and that is as near."""
SAME_WORD = 0.1
"""What a name gains that begins with the very word that was typed first: `sam` of `sam_vit_h`."""
MAX_LENGTH = 80


def suggest(connection: sqlite3.Connection, text: str, count: int = 5) -> list[str]:
    """References near `text`, the nearest first; of equally near ones those that can be built, then models' own names
    before other names of theirs."""
    typed = _folded("".join(c for c in text if c.isprintable())[:MAX_LENGTH].partition("@")[0])
    namespace, slash, rest = typed.rpartition("/")
    name = rest.partition(".")[0]
    scored: dict[str, tuple[float, bool, bool, int]] = {}
    for part in {name, typed} - {""}:  # published names have slashes and dots of their own
        word = part.partition("_")[0]
        for ref, candidate, is_alias, installed in _candidates(connection, part):
            near = _folded(candidate)
            score = SequenceMatcher(None, part, near).ratio()
            score += SAME_WORD if word != part and near.startswith(f"{word}_") else 0
            score += CURATED if not slash and "/" not in ref else 0
            # The right plugin for a misspelt name, and the right name in another plugin, are both worth showing.
            score += 0.1 if slash and ref.startswith(f"{namespace}/") else 0
            if score >= NEAR:
                rank = (-score, not installed, bool(is_alias), len(ref))
                scored[ref] = min(rank, scored.get(ref, rank))
    return sorted(scored, key=lambda ref: (scored[ref], ref))[:count]


def is_very_near(ref: str, name: str) -> bool:
    """Whether a suggestion can hardly be anything but what was meant."""
    return SequenceMatcher(None, _folded(ref.rpartition("/")[2]), _folded(name)).ratio() >= VERY_NEAR


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def _candidates(connection: sqlite3.Connection, name: str) -> list[tuple[str, str, int, int]]:
    """(reference, name, is an alias, installed) of rows and published names that share most letter pairs with one."""
    pairs = sorted({name[i : i + 2] for i in range(max(1, len(name) - 1))})
    shared = " + ".join(f"(instr(replace(lower(name), '-', '_'), ?{i + 3}) > 0)" for i in range(len(pairs)))
    query = f"""
        SELECT coalesce(alias, ref), name, alias IS NOT NULL, status = 'installed' FROM (
            SELECT id, NULL AS alias, name, plugin FROM models WHERE length(name) BETWEEN ?1 AND ?2
            UNION ALL
            SELECT first + model, iif(namespace IN {BARE}, alias, namespace || '/' || alias), alias, plugin
                FROM aliases JOIN plugins ON plugins.id = plugin WHERE length(alias) BETWEEN ?1 AND ?2
        ) AS near JOIN plugins ON plugins.id = plugin JOIN details ON details.id = near.id
        ORDER BY {shared} - abs(length(name) - {len(name)}) / 2.0 DESC LIMIT {CANDIDATES}
    """
    least, most = round(len(name) * 0.5), len(name) * 2
    return connection.execute(query, [least, most, *pairs]).fetchall()
