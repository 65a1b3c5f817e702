"""Licences as data: what an SPDX id allows, in one word, and whether the caller has accepted it.

The classes are a sorting aid for choosing models, not legal advice. Ids compare without regard to case, because hosts
write `apache-2.0` where SPDX writes `Apache-2.0`; names that SPDX does not list are accepted with or without
`LicenseRef-` in front.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from zoo.errors import LicenseError, OptionError
from zoo.specs import CheckpointSpec

CLASSES = ("permissive", "copyleft", "restricted", "non-commercial", "unknown")
"""From the freest to the least known. `restricted` allows commercial use with conditions on who uses it or what for."""

_IDS = {
    "permissive": """
        0BSD AFL-3.0 Apache-2.0 BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause
        BSD-3-Clause-Clear BSL-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-PDDC CC0-1.0 CDLA-Permissive-1.0
        CDLA-Permissive-2.0 ECL-2.0 HPND ISC MIT MIT-0 MIT-CMU MS-PL MulanPSL-2.0 NCSA ODC-By-1.0 PDDL-1.0 PostgreSQL
        PSF-2.0 Python-2.0 Unlicense UPL-1.0 WTFPL X11 Zlib""",
    "copyleft": """
        AGPL-3.0 AGPL-3.0+ AGPL-3.0-only AGPL-3.0-or-later CC-BY-SA-3.0 CC-BY-SA-4.0 CDDL-1.0 CDDL-1.1 CDLA-Sharing-1.0
        CECILL-2.1 CPL-1.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 GPL-2.0 GPL-2.0+ GPL-2.0-only GPL-2.0-or-later GPL-3.0
        GPL-3.0+ GPL-3.0-only GPL-3.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only
        LGPL-3.0-or-later MPL-1.1 MPL-2.0 MS-RL ODbL-1.0 OSL-3.0""",
    "restricted": """
        apple-ascl bigscience-bloom-rail-1.0 bigscience-openrail-m BUSL-1.1 CC-BY-ND-3.0 CC-BY-ND-4.0
        creativeml-openrail-m dinov3-license gemma llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
        nvidia-open-model-license openrail openrail++ qwen-community-1.0 SSPL-1.0""",
    "non-commercial": """
        apple-amlr CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0
        CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 fair-noncommercial-research-license nvclv1 nvidia-source-code-license-nc
        PolyForm-Noncommercial-1.0.0 seer-license""",
}
_CLASS_OF = {id.casefold(): license_class for license_class, ids in _IDS.items() for id in ids.split()}
_EXCEPTIONS = frozenset(
    """
    Autoconf-exception-2.0 Autoconf-exception-3.0 Bison-exception-2.2 Bootloader-exception Classpath-exception-2.0
    eCos-exception-2.0 FLTK-exception Font-exception-2.0 GCC-exception-2.0 GCC-exception-3.1 GNAT-exception GPL-CC-1.0
    LGPL-3.0-linking-exception Libtool-exception Linux-syscall-note LLVM-exception OCaml-LGPL-linking-exception
    Qt-GPL-exception-1.0 Qt-LGPL-exception-1.1 Swift-exception u-boot-exception-2.0 Universal-FOSS-exception-1.0
    WxWindows-exception-3.1
    """.casefold().split()
)
"""SPDX exceptions, which only ever permit more. Others, such as the Commons Clause, may take permissions away."""

_OPERATORS = ("AND", "OR", "WITH")
_around: ContextVar[tuple[str, ...]] = ContextVar("accepted_licenses", default=())
_RANK = {license_class: rank for rank, license_class in enumerate(CLASSES)}


def classify(license: str) -> str:
    """One of `CLASSES` for an SPDX id or expression: `A OR B` is as free as the freer, `A AND B` as the other.

    `OR` binds weaker than `AND`, `X WITH exception` is as free as X, parentheses group. An exception that SPDX does
    not list makes its licence unknown, and what is not an expression is unknown as a whole.
    """
    groups: list[list[str]] = [[]]
    for word in license.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            groups.append([])
        elif word == ")":
            group_class = _of_group(groups.pop())
            if group_class is None or not groups:
                return "unknown"
            groups[-1].append("(" + group_class)  # no id begins with a parenthesis
        else:
            groups[-1].append(word)
    return (len(groups) == 1 and _of_group(groups[0])) or "unknown"


def is_known(license: str) -> bool:
    """Whether the table has this id."""
    return _bare(license) in _CLASS_OF


def check_license(checkpoint: CheckpointSpec, ref: str, allow: Sequence[str] | str | None = None) -> None:
    """Refuse weights whose licence is not permissive unless the caller accepts it.

    Args:
        checkpoint: the weights about to be used.
        ref: how the caller named them, for the message.
        allow: SPDX ids or classes accepted beside the permissive ones; `"*"` accepts any. The environment variable
            `ZOO_ALLOW_LICENSES` adds to it, separated by commas.

    Raises:
        LicenseError: names the licence, its class, and the one argument that accepts it; or the plugin whose policy
            refuses it, which nothing overrules.
        OptionError: `allow` is not made of names.
    """
    license = checkpoint.license or "unknown"
    license_class = classify(license)
    words = (*_words(allow), *_around.get(), *_words(os.environ.get("ZOO_ALLOW_LICENSES")))
    accepted = {_bare(word) for word in words}
    if _accepted_by_policy(ref, license, license_class):
        return
    if license_class == "permissive" or accepted & {"*", license_class, _bare(license)}:
        return
    if classify(_as_accepted(license, accepted)) == "permissive":
        return
    said = "have no known licence" if license_class == "unknown" else f"are under {license}, which is {license_class}"
    raise LicenseError(
        f"the weights of {ref} {said}",
        asked=ref,
        found=license,
        fix=f'allow_licenses=["{license}"], if you may use them so',
    )


@contextmanager
def accepting(allow: Sequence[str] | str | None) -> Iterator[None]:
    """Within, `check_license` accepts these too: what is accepted for a composed model is accepted for its parts."""
    token = _around.set((*_around.get(), *_words(allow)))
    try:
        yield
    finally:
        _around.reset(token)


def _accepted_by_policy(ref: str, license: str, license_class: str) -> bool:
    """Whether a plugin's policy accepts the weights. Raises `LicenseError` where one refuses them."""
    from zoo.plugin.providers import providers

    if not providers("license_policy"):
        return False
    from zoo.plugin.hooks import license_answers
    from zoo.plugin.hookspecs import LicensePolicy

    said = license_answers(LicensePolicy(ref, license, license_class))
    refusing = next((distribution for distribution, may in said if not may), None)
    if refusing is not None:
        raise LicenseError(
            f"the policy of {refusing} refuses the weights of {ref}",
            asked=ref,
            found=license,
            fix="other weights: zoo list --license permissive",
        )
    return bool(said)


def _as_accepted(license: str, accepted: set[str]) -> str:
    """An expression in which what is accepted by its id stands as something permissive."""
    words = license.replace("(", " ( ").replace(")", " ) ").split()
    return " ".join("MIT" if word not in _OPERATORS and _bare(word) in accepted else word for word in words)


def _of_group(words: Sequence[str]) -> str | None:
    """The class of an expression whose groups are classes already; None for what is not an expression."""
    alternatives = []
    for alternative in _split(words, "OR"):
        together = [_of_term(term) for term in _split(alternative, "AND")]
        if None in together:
            return None
        alternatives.append(max(filter(None, together), key=_RANK.__getitem__))
    return min(alternatives, key=_RANK.__getitem__)


def _of_term(words: Sequence[str]) -> str | None:
    """The class of an id, of `id WITH exception`, or of a group; None for anything else."""
    match words:
        case [id] if id.startswith("("):
            return id[1:]
        case [id] if id not in _OPERATORS:
            return _CLASS_OF.get(_bare(id), "unknown")
        case [id, "WITH", exception] if not id.startswith("(") and not {id, exception} & {*_OPERATORS}:
            return _CLASS_OF.get(_bare(id), "unknown") if exception.casefold() in _EXCEPTIONS else "unknown"
    return None


def _split(words: Sequence[str], operator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == operator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _words(given: Sequence[str] | str | None) -> Sequence[str]:
    if isinstance(given, str):
        return given.split(",")
    try:
        words = () if given is None else tuple(given)
    except TypeError:
        words = (given,)  # type: ignore[assignment]  # what is refused next
    if all(isinstance(word, str) for word in words):
        return words
    raise OptionError(
        "accepted licences are SPDX ids or classes",
        asked=f"allow_licenses={given!r}",
        fix='allow_licenses=["CC-BY-NC-4.0"], or "*" for any',
    )


def _bare(license: str) -> str:
    return license.strip().casefold().removeprefix("licenseref-")
