"""A plugin's code is imported late, and what it does wrong bears its name and leaves the core usable."""

from __future__ import annotations

import pytest

import zoo
from synthetic_plugins import Site
from zoo.errors import PluginError
from zoo.plugin.discovery import discover
from zoo.plugin.loading import load_factory
from zoo.plugin.state import PluginRecord

FAULTS = {
    "raise ValueError('boom')": ("import-failed", "raised ValueError: boom"),
    "import sys; sys.exit(3)": ("import-failed", "tried to end the process (exit status 3)"),
    "raise SystemExit": ("import-failed", "tried to end the process"),
    "def broken(:": ("import-failed", "raised SyntaxError"),
    "import zoo_no_such_package": ("missing-deps", "needs `zoo_no_such_package`"),
    "import zoo_acme.gone": ("import-failed", "No module named 'zoo_acme.gone'"),
    "raise RecursionError('deep')": ("import-failed", "raised RecursionError: deep"),
    "pass": ("contract-failed", "there is no zoo_acme.tiny:Tiny"),
    "Tiny = 3": ("contract-failed", "is a int, not a zoo.Model"),
    "class Tiny: pass": ("contract-failed", "is a type, not a zoo.Model"),
    "import zoo\ndef Tiny(config): pass": ("contract-failed", "is a function, not a zoo.Model"),
    "import zoo\nclass Tiny(zoo.Model): Config = dict": ("contract-failed", "is not a zoo.ModelConfig"),
    "import zoo\nclass C(zoo.ModelConfig):\n    width: int\nclass Tiny(zoo.Model): Config = C": (
        "contract-failed",
        "has no default for `width`",
    ),
}


def record_of(namespace: str) -> PluginRecord:
    return next(record for record, _ in discover().plugins if record.namespace == namespace)


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_of_a_plugins_code_bears_its_name_and_state(installed: Site, code: str) -> None:
    state, reason = FAULTS[code]
    installed.plugin("acme", files={"tiny.py": code})
    installed.plugin("fine")
    with pytest.raises(PluginError) as caught:
        load_factory("zoo_acme.tiny:Tiny", record_of("acme"))
    assert (caught.value.namespace, caught.value.state) == ("acme", state)
    assert reason in caught.value.message
    assert "zoo-acme 1.0" in caught.value.message
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("pip install ")
    assert caught.value.fix.endswith(" zoo-acme")
    assert issubclass(load_factory("zoo_fine.tiny:Tiny", record_of("fine")), zoo.Model)


def test_the_cause_is_kept_for_who_wants_the_traceback(installed: Site) -> None:
    installed.plugin("acme", files={"tiny.py": "raise ValueError('boom')"})
    with pytest.raises(PluginError) as caught:
        load_factory("zoo_acme.tiny:Tiny", record_of("acme"))
    assert repr(caught.value.__cause__) == "ValueError('boom')"


def test_a_quarantined_plugin_is_not_imported(installed: Site) -> None:
    installed.plugin("acme", api=[9, 9], files={"tiny.py": "raise SystemExit('imported')"})
    with pytest.raises(PluginError, match="needs plugin API 9") as caught:
        load_factory("zoo_acme.tiny:Tiny", record_of("acme"))
    assert (caught.value.state, caught.value.fix) == ("incompatible", "pip install --upgrade zoo-core")


def test_the_users_interrupt_is_not_taken_for_a_fault(installed: Site) -> None:
    installed.plugin("acme", files={"tiny.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load_factory("zoo_acme.tiny:Tiny", record_of("acme"))
