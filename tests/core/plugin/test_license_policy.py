"""A plugin may refuse weights by their licence, or accept them; it answers for itself."""

from __future__ import annotations

import sys

import pytest

from synthetic_plugins import Site
from zoo.catalog.licenses import check_license
from zoo.errors import LicenseError
from zoo.plugin.hooks import HookWarning
from zoo.specs import CheckpointSpec

POLICY = """
    from zoo.plugin.hooks import hookimpl

    @hookimpl
    def license_policy(event):
        return {answer}
"""


def add(site: Site, namespace: str, answer: str) -> None:
    site.plugin(namespace, hooks=("license_policy",), files={"hooks.py": POLICY.format(answer=answer)})


def ask(license: str, allow: str | None = None) -> None:
    check_license(CheckpointSpec(name="w", sources=(), license=license), "acme/m.w", allow)


def test_a_policy_refuses_what_the_caller_accepts_and_what_is_permissive(installed: Site) -> None:
    add(installed, "acme", "False if event.license in ('gemma', 'MIT') else None")
    for license, allow in (("gemma", "*"), ("gemma", None), ("MIT", None)):
        with pytest.raises(LicenseError, match="the policy of zoo-acme refuses the weights") as raised:
            ask(license, allow)
        assert "allow_licenses" not in str(raised.value)
    ask("Apache-2.0")
    ask("llama3", "llama3")
    with pytest.raises(LicenseError, match="restricted"):
        ask("llama3")


def test_a_policy_accepts_for_everybody_unless_another_refuses(installed: Site) -> None:
    add(installed, "acme", "True if event.license_class in ('non-commercial', 'restricted') else None")
    add(installed, "zed", "False if event.license == 'gemma' else None")
    ask("CC-BY-NC-4.0")
    ask("llama3")
    with pytest.raises(LicenseError, match="zoo-zed"):
        ask("gemma")
    with pytest.raises(LicenseError, match="allow_licenses"):
        ask("GPL-3.0")


def test_a_policy_may_refuse_in_its_own_words(installed: Site) -> None:
    add(installed, "acme", "(_ for _ in ()).throw(__import__('zoo').LicenseError('ask legal first', fix='legal@acme'))")
    with pytest.raises(LicenseError, match="ask legal first"):
        ask("MIT")


@pytest.mark.parametrize("answer", ["1 / 0", "'yes'", "1"])
def test_a_broken_policy_is_named_and_changes_nothing(installed: Site, answer: str) -> None:
    add(installed, "acme", answer)
    with pytest.warns(HookWarning, match="zoo-acme"):
        ask("MIT")
    with pytest.warns(HookWarning, match="zoo-acme"), pytest.raises(LicenseError, match="allow_licenses"):
        ask("gemma")


def test_without_a_policy_nothing_is_imported(installed: Site) -> None:
    installed.plugin("acme", hooks=("error_hint",), files={"hooks.py": "raise SystemExit('imported')"})
    ask("MIT")
    assert "zoo_acme.hooks" not in sys.modules
