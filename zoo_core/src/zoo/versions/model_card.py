"""The first page of a repository that versions are pushed to, where nobody has written one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CARD = "README.md"
_HUB_LICENSES = frozenset({
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "openrail",
    "unlicense",
})  # fmt: skip
"""SPDX ids that the Hub has under the same name in lower case; anything else is `other` there, with its name."""


def model_card(records: Sequence[Mapping[str, Any]], repo: str) -> bytes:
    """The page. records: the values of the versions that are pushed. It says nothing that a later push makes wrong."""
    licenses = sorted({str((values["saved"].get("provenance") or {}).get("license") or "") for values in records})
    front = ["library_name: zoo", "tags:", "- zoo-registry"]
    if licenses != [""] and licenses:
        known = licenses[0].lower() if len(licenses) == 1 and licenses[0].lower() in _HUB_LICENSES else None
        said = " and ".join(license or "the publisher's own" for license in licenses)
        front += [f"license: {known}"] if known else ["license: other", f"license_name: {json.dumps(said)}"]
    names = sorted({str(values["name"]) for values in records})
    lines = ["---", *front, "---", "", f"# {', '.join(names) or repo}", ""]
    lines += ["Models of a zoo registry, each version in its folder; `zoo-registry.json` lists them.", "", "```bash"]
    lines += [f"zoo registry pull hf://{repo} {name}@latest" for name in names[:5]]
    lines += ["```", "", "| version | class | metrics | weights under |", "|---|---|---|---|"]
    for values in records[:20]:
        license = (values["saved"].get("provenance") or {}).get("license") or "the publisher's own terms"
        metrics = ", ".join(f"{name} {value:g}" for name, value in sorted(values["metrics"].items()))
        row = (f"{values['name']} {values['version']}", f"`{values['saved']['factory']}`", metrics, license)
        lines.append(f"| {' | '.join(_cell(text) for text in row)} |")
    return ("\n".join(lines) + "\n").encode()


def _cell(text: object) -> str:
    """A text that stays in its cell of the table, and is no markup."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return shown.replace("|", "\\|").replace("<", "&lt;")[:200]
