"""Whatever is registered, promoted and rolled back, in whatever order: the registry says what a dictionary says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from registered_models import pebble, value_of

import zoo
from zoo.versions.semver import Range, Version

NAMES = st.sampled_from(["pebble", "stone"])
VERSIONS = st.sampled_from(["1.0.0", "1.0.1", "1.2.0-rc.1", "1.2.0", "2.0.0-0", "0.9.0"])
ALIASES = st.sampled_from(["production", "staging"])
RANGES = st.sampled_from(["^1", "~1.0", ">=1.2.0-rc.1", "*", "<1", "=1.0.1"])


class RegistryMachine(RuleBasedStateMachine):
    """The registry beside an oracle: values by name and version, and a stack of targets by alias."""

    taken = Bundle("taken")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = zoo.ModelRegistry(Path(self.folder.name, "registry"))
        self.values: dict[str, dict[str, float]] = {"pebble": {}, "stone": {}}
        self.stacks: dict[tuple[str, str], list[str]] = {}
        self.changes = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(target=taken, name=NAMES, version=VERSIONS, value=st.integers(0, 2))
    def register(self, name: str, version: str, value: int) -> object:
        known = self.values[name]
        if known.get(version, value) == value:  # new, or the same again
            self.registry.register(name=name, version=version, model=pebble(value))
            known[version] = value
            return name, version
        with pytest.raises(zoo.ZooError, match="overwritten"):
            self.registry.register(name=name, version=version, model=pebble(value))
        return multiple()

    @rule(which=taken, alias=ALIASES)
    def promote(self, which: tuple[str, str], alias: str) -> None:
        name, version = which
        self.registry.promote(name, version, alias)
        stack = self.stacks.setdefault((name, alias), [])
        if stack[-1:] != [version]:
            stack.append(version)
            self.changes += 1

    @rule(which=taken, alias=ALIASES)
    def roll_back(self, which: tuple[str, str], alias: str) -> None:
        name = which[0]
        stack = self.stacks.get((name, alias), [])
        if len(stack) < 2:
            with pytest.raises(zoo.NotFoundError):
                self.registry.rollback(name, alias)
        else:
            stack.pop()
            assert self.registry.rollback(name, alias).version == stack[-1]
            self.changes += 1

    @rule(which=taken)
    def load(self, which: tuple[str, str]) -> None:
        name, version = which
        assert value_of(self.registry.load(name, version)) == self.values[name][version]

    @rule(name=NAMES, text=RANGES)
    def choose(self, name: str, text: str) -> None:
        inside = [v for v in map(Version.parse, self.values[name]) if Range.parse(text).admits(v)]
        if inside:
            assert self.registry.show(name, text).version == str(max(inside))
        else:
            with pytest.raises(zoo.NotFoundError):
                self.registry.show(name, text)

    @invariant()
    def everything_is_there(self) -> None:
        listed = [(record.name, record.version) for record in self.registry.list()]
        expected = [
            (n, v) for n in sorted(self.values) for v in sorted(self.values[n], key=Version.parse, reverse=True)
        ]
        assert listed == expected

    @invariant()
    def aliases_mean_the_top_of_their_stacks(self) -> None:
        for (name, alias), stack in self.stacks.items():
            assert self.registry.show(name, alias).version == stack[-1]
        assert sum(len(self.registry.history(name)) for name in self.values if self.values[name]) == self.changes


RegistryMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRegistryMachine = RegistryMachine.TestCase
