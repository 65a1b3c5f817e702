"""Hooks import only who declares them, only when they fire; each implementation answers for itself."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synthetic_plugins import Site, manifest_of
from zoo.errors import FormatError
from zoo.plugin import hookspecs
from zoo.plugin.hooks import HOOKS, HookWarning, call, first, read_weights
from zoo.plugin.hookspecs import ErrorHint

HINT = """
    from zoo.plugin.hooks import hookimpl

    @hookimpl
    def error_hint(event):
        return f"{__name__}: {event.error}"
"""
GUIDE = Path(__file__).parents[3] / "docs" / "writing_a_plugin.md"
EVENT = ErrorHint(ValueError("a fault"))


def add(site: Site, namespace: str, code: str = HINT, hooks: tuple[str, ...] = ("error_hint",)) -> None:
    site.plugin(namespace, hooks=hooks, files={"hooks.py": code})


def test_every_plugin_that_declares_a_hook_is_asked_in_order_of_namespace(installed: Site) -> None:
    for namespace in ("zed", "acme", "mid"):
        add(installed, namespace)
    assert call("error_hint", EVENT) == [f"zoo_{name}.hooks: a fault" for name in ("acme", "mid", "zed")]
    assert first("error_hint", EVENT) == "zoo_acme.hooks: a fault"


def test_only_who_declares_the_hook_is_imported_and_only_when_it_fires(installed: Site) -> None:
    add(installed, "acme")
    add(installed, "other", "raise SystemExit('imported')", hooks=("model_created",))
    add(installed, "undeclared", "raise SystemExit('imported')", hooks=())
    assert call("checkpoint_source", hookspecs.CheckpointSource("odd://weights", "")) == []
    assert "zoo_acme.hooks" not in sys.modules
    assert len(call("error_hint", EVENT)) == 1
    assert "zoo_acme.hooks" in sys.modules
    assert not {"zoo_other.hooks", "zoo_undeclared.hooks"} & set(sys.modules)


FAULTS = {
    "raise ValueError('boom')": "import-failed: importing zoo_bad.hooks raised ValueError: boom",
    "import sys; sys.exit()": "import-failed: importing zoo_bad.hooks tried to end the process",
    "import zoo_no_such_package": "missing-deps: zoo_bad.hooks needs `zoo_no_such_package`",
    "pass": "contract-failed: it declares the hook error_hint and does not implement it",
    HINT.replace("error_hint", "error_hints"): "contract-failed: zoo_bad.hooks: unknown hook 'error_hints'",
    HINT.replace("(event)", "(event, more)"): "contract-failed: zoo_bad.hooks: ",
    HINT.replace(
        "return", "raise ValueError('boom') #"
    ): "contract-failed: its hook error_hint raised ValueError: boom",
    HINT.replace("return", "raise SystemExit #"): "contract-failed: its hook error_hint raised SystemExit",
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_broken_hook_becomes_a_warning_that_names_the_plugin_and_harms_no_other(installed: Site, code: str) -> None:
    for namespace in ("acme", "zed"):
        add(installed, namespace)
    add(installed, "bad", code)
    with pytest.warns(HookWarning) as caught:
        assert call("error_hint", EVENT) == ["zoo_acme.hooks: a fault", "zoo_zed.hooks: a fault"]
    [warning] = caught
    assert f"the plugin zoo-bad 1.0 (bad/) is {FAULTS[code]}" in str(warning.message)
    assert "pip install" in str(warning.message)


def test_a_broken_hook_is_passed_over_by_who_needs_one_answer(installed: Site) -> None:
    add(installed, "acme", "raise ValueError('boom')")
    add(installed, "zed")
    with pytest.warns(HookWarning, match="zoo-acme"):
        assert first("error_hint", EVENT) == "zoo_zed.hooks: a fault"


def test_a_broken_module_is_imported_once_and_reported_each_time(installed: Site) -> None:
    add(installed, "bad", "import builtins\nbuiltins.zoo_test_count = getattr(builtins, 'zoo_test_count', 0) + 1\n1/0")
    for _ in range(2):
        with pytest.warns(HookWarning, match="ZeroDivisionError"):
            assert call("error_hint", EVENT) == []
    import builtins

    assert vars(builtins).pop("zoo_test_count") == 1


READ = """
    from zoo.errors import FormatError
    from zoo.plugin.hooks import hookimpl

    @hookimpl
    def read_weights(event):
        if event.path.endswith(".mine"):
            return {"a": 1}
        if event.path.endswith(".damaged"):
            raise FormatError("damaged", fix="fetch it again")
"""


@pytest.fixture
def file(installed: Site) -> Callable[[str], str]:
    """A file of some name, and its path."""

    def make(name: str) -> str:
        installed.write({name: "x"})
        return str(installed.folder / name)

    return make


def test_a_refusal_on_purpose_reaches_the_user_where_nobody_else_answers(
    installed: Site, file: Callable[[str], str]
) -> None:
    add(installed, "acme", READ, hooks=("read_weights",))
    assert read_weights(file("x.mine")) == {"a": 1}
    assert read_weights(file("x.other")) is None
    with pytest.raises(FormatError, match="damaged"):
        read_weights(file("x.damaged"))


def test_another_plugins_answer_comes_before_a_refusal(installed: Site, file: Callable[[str], str]) -> None:
    add(installed, "acme", READ, hooks=("read_weights",))
    other = READ.replace('raise FormatError("damaged", fix="fetch it again")', 'return {"b": 2}')
    add(installed, "zed", other, hooks=("read_weights",))
    assert read_weights(file("x.damaged")) == {"b": 2}


def test_switched_off_and_quarantined_plugins_are_not_asked(installed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    add(installed, "acme")
    assert len(call("error_hint", EVENT)) == 1
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    assert call("error_hint", EVENT) == []
    monkeypatch.delenv("ZOO_NO_PLUGINS")
    monkeypatch.setenv("ZOO_PLUGINS", "other")
    assert call("error_hint", EVENT) == []


@pytest.mark.filterwarnings("error")
def test_a_plugin_that_lacks_something_is_passed_over_in_silence(installed: Site) -> None:
    installed.plugin("acme", hooks=["error_hint"], requires=["zoo_no_such_package"], files={"hooks.py": HINT})
    assert call("error_hint", EVENT) == []


def test_hooks_under_another_name_than_the_plugins_own_are_not_taken(installed: Site) -> None:
    installed.plugin("acme", manifest_of("acme", hooks=["error_hint"]))
    installed.install("zoo-thief", "[zoo.hooks]\nacme = zoo_thief.hooks", files={"zoo_thief/hooks.py": HINT})
    assert call("error_hint", EVENT) == []


def test_every_hook_and_every_event_is_documented() -> None:
    functions = {
        n: f for n, f in inspect.getmembers(hookspecs, inspect.isfunction) if f.__module__ == hookspecs.__name__
    }
    assert tuple(sorted(functions)) == HOOKS
    for name, function in functions.items():
        assert inspect.getdoc(function), name
        assert f"`{name}`" in GUIDE.read_text(), name
        assert list(inspect.signature(function).parameters) == ["event"], name
        event = vars(hookspecs)[inspect.get_annotations(function)["event"]]
        for field in event._fields:
            assert f"{field}: " in event.__doc__, f"{event.__name__}.{field}"
        with pytest.raises(AttributeError):
            setattr(event(*event._fields), event._fields[0], "events are frozen")
