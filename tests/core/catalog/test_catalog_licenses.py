"""What a licence allows is data, and nothing but permissive weights are used unasked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from zoo.catalog.licenses import CLASSES, accepting, check_license, classify
from zoo.errors import LicenseError, OptionError
from zoo.specs import CheckpointSpec


def weights(license: str) -> CheckpointSpec:
    return CheckpointSpec(name="w", sources=("hf://a/b/c",), license=license)


@pytest.mark.parametrize(
    ("license", "license_class"),
    [
        ("Apache-2.0", "permissive"),
        ("apache-2.0", "permissive"),
        ("MIT", "permissive"),
        ("BSD-3-Clause", "permissive"),
        ("CC-BY-4.0", "permissive"),
        ("AGPL-3.0", "copyleft"),
        ("AGPL-3.0-only", "copyleft"),
        ("CC-BY-SA-4.0", "copyleft"),
        ("CC-BY-NC-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("fair-noncommercial-research-license", "non-commercial"),
        ("LicenseRef-fair-noncommercial-research-license", "non-commercial"),
        ("creativeml-openrail-m", "restricted"),
        ("dinov3-license", "restricted"),
        ("unknown", "unknown"),
        ("other", "unknown"),
        ("", "unknown"),
        ("MIT-like, I think", "unknown"),
        ("MIT OR GPL-3.0", "permissive"),
        ("MIT AND GPL-3.0", "copyleft"),
        ("GPL-3.0 AND CC-BY-NC-4.0", "non-commercial"),
        ("GPL-2.0 WITH Classpath-exception-2.0", "copyleft"),
        ("MIT AND (Apache-2.0 OR GPL-3.0)", "permissive"),
        ("(MIT OR Apache-2.0) AND GPL-3.0", "copyleft"),
        ("MIT OR GPL-3.0 AND CC-BY-NC-4.0", "permissive"),  # AND binds tighter
        ("MIT AND nobody-knows", "unknown"),
        ("OR", "unknown"),
        ("OR GPL-3.0", "unknown"),
        ("AND", "unknown"),
        ("()", "unknown"),
        (")", "unknown"),
        ("MIT GPL-3.0", "unknown"),
        ("MIT OR", "unknown"),
        ("MIT AND", "unknown"),
        ("MIT OR OR Apache-2.0", "unknown"),
        ("MIT OR WITH", "unknown"),
        ("MIT WITH", "unknown"),
        ("WITH LLVM-exception", "unknown"),
        ("MIT OR MIT WITH OR", "unknown"),
        ("( MIT", "unknown"),
        ("MIT )", "unknown"),
        ("MIT (Apache-2.0)", "unknown"),
        ("MIT OR (GPL-3.0 AND)", "unknown"),
        ("((MIT))", "permissive"),
        ("Apache-2.0 WITH LLVM-exception", "permissive"),
        ("apache-2.0 WITH llvm-exception", "permissive"),
        ("GPL-3.0-only WITH GCC-exception-3.1", "copyleft"),
        ("Apache-2.0 WITH Commons-Clause", "unknown"),
        ("MIT AND Apache-2.0 WITH Commons-Clause", "unknown"),
        ("MIT OR Apache-2.0 WITH Commons-Clause", "permissive"),
        ("(Apache-2.0) WITH LLVM-exception", "unknown"),
        ("nobody-knows WITH LLVM-exception", "unknown"),
    ],
)
def test_a_licence_has_a_class(license: str, license_class: str) -> None:
    assert classify(license) == license_class


ids = st.sampled_from(["MIT", "Apache-2.0", "GPL-3.0", "CC-BY-NC-4.0", "gemma", "x"])


@given(ids, ids)
def test_and_is_no_freer_than_either_and_or_no_less_free(one: str, other: str) -> None:
    rank = CLASSES.index
    assert rank(classify(f"{one} AND {other}")) == max(rank(classify(one)), rank(classify(other)))
    assert rank(classify(f"{one} OR {other}")) == min(rank(classify(one)), rank(classify(other)))
    assert classify(f"({one})") == classify(one)


@given(st.text() | st.lists(st.sampled_from(["MIT", "(", ")", "AND", "OR", "WITH", " ", "GPL-3.0"])).map(" ".join))
@example("(" * 100_000)
@example("MIT AND " * 10_000)
def test_any_text_has_a_class(license: str) -> None:
    assert classify(license) in CLASSES


@given(st.lists(st.sampled_from(["(", ")", "AND", "OR", "WITH", "junk"]), max_size=8).map(" ".join))
def test_nothing_is_permissive_without_naming_a_permissive_licence(license: str) -> None:
    assert classify(license) == "unknown"
    with pytest.raises(LicenseError):
        check_license(weights(license), "acme/m.w")


def test_permissive_weights_need_no_leave() -> None:
    check_license(weights("Apache-2.0"), "acme/m.w")


@pytest.mark.parametrize("license", ["CC-BY-NC-4.0", "AGPL-3.0", "gemma", "unknown", ""])
def test_other_weights_are_refused_and_the_argument_that_accepts_them_works(license: str) -> None:
    with pytest.raises(LicenseError) as raised:
        check_license(weights(license), "acme/m.w")
    assert "acme/m.w" in raised.value.message
    said = license or "unknown"
    assert f'allow_licenses=["{said}"]' in str(raised.value.fix)
    assert str(raised.value).count(said) == 2 + ("no known" not in str(raised.value)), "one argument is named, once"
    assert "ZOO_ALLOW_LICENSES" not in str(raised.value)
    check_license(weights(license), "acme/m.w", [said])


@pytest.mark.parametrize(
    "allow", ["*", ["*"], ["cc-by-nc-4.0"], "MIT,CC-BY-NC-4.0", ["non-commercial"], ("GPL-3.0", "CC-BY-NC-4.0")]
)
def test_a_licence_is_accepted_by_id_by_class_or_altogether(allow: list[str] | str) -> None:
    check_license(weights("CC-BY-NC-4.0"), "acme/m.w", allow)


@pytest.mark.parametrize(
    ("license", "allow", "passes"),
    [
        ("GPL-3.0 AND CC-BY-NC-4.0", ["GPL-3.0", "cc-by-nc-4.0"], True),
        ("GPL-3.0 AND CC-BY-NC-4.0", ["GPL-3.0"], False),
        ("GPL-3.0 AND CC-BY-NC-4.0", ["GPL-3.0 AND CC-BY-NC-4.0"], True),
        ("GPL-3.0 OR gemma", ["gemma"], True),
        ("MIT AND (GPL-3.0 OR gemma)", ["gemma"], True),
        ("Apache-2.0 WITH Commons-Clause", ["Apache-2.0"], False),
        ("gemma WITH Commons-Clause", ["gemma"], False),
        ("gemma gemma", ["gemma"], False),
    ],
)
def test_an_expression_is_accepted_by_its_ids(license: str, allow: list[str], passes: bool) -> None:
    if passes:
        check_license(weights(license), "acme/m.w", allow)
        return
    with pytest.raises(LicenseError):
        check_license(weights(license), "acme/m.w", allow)


def test_what_is_accepted_around_is_accepted_inside_and_not_after() -> None:
    with accepting(["gemma"]):
        with accepting(None):
            check_license(weights("gemma"), "acme/m.w")
        with pytest.raises(LicenseError):
            check_license(weights("GPL-3.0"), "acme/m.w")
    with pytest.raises(LicenseError):
        check_license(weights("gemma"), "acme/m.w")


@pytest.mark.parametrize("allow", [None, [], "", ["CC-BY-4.0"], ["copyleft"], ["permissive"], ["CC-BY-NC"]])
def test_accepting_another_licence_accepts_nothing_else(allow: list[str] | str | None) -> None:
    with pytest.raises(LicenseError):
        check_license(weights("CC-BY-NC-4.0"), "acme/m.w", allow)


@pytest.mark.parametrize("allow", [5, 0, [5], ["MIT", None], b"MIT", False])
def test_what_names_no_licence_is_answered_with_how_to_name_one(allow: Any) -> None:
    with pytest.raises(OptionError, match="SPDX ids") as raised:
        check_license(weights("MIT"), "acme/m.w", allow)
    assert "allow_licenses=" in str(raised.value.fix)


def test_the_environment_accepts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_ALLOW_LICENSES", "GPL-3.0, CC-BY-NC-4.0")
    check_license(weights("CC-BY-NC-4.0"), "acme/m.w")
    with pytest.raises(LicenseError):
        check_license(weights("gemma"), "acme/m.w")
    monkeypatch.setenv("ZOO_ALLOW_LICENSES", "*")
    check_license(weights("gemma"), "acme/m.w")
