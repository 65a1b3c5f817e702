"""Stored, registered, collected, spoilt, mended and killed in whatever order: it is as a dictionary says."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
import toll
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from killing import Answer, End, lived, traced, untraceable
from lives import within
from soundness import flaws
from stones import stone, value_of

import zoo
from zoo.checkpoints.arrivals import Arrival
from zoo.checkpoints.collection import collect
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.repair import HARMLESS, repair, verify
from zoo.checkpoints.store import Store
from zoo.versions.keeping import registered_blobs, registered_versions
from zoo.versions.semver import Version

BODIES = [bytes([number]) * 40_000 for number in range(3)]
VERSIONS = st.sampled_from(["1.0.0", "1.0.1", "2.0.0"])
VALUES = st.integers(0, 2)
ALIASES = st.sampled_from(["production", "staging"])
MOMENTS = st.integers(0, 45)
"""Before which change to the disk a process is killed; later ones are its natural end."""


class FaultMachine(RuleBasedStateMachine):
    """Store and registry beside an oracle: values by version, stacks of targets by alias, and blobs that nothing roots.

    `blobs`: those that are certainly there. Of what was killed either outcome is right; which it was is looked up.
    """

    taken = Bundle("taken")
    warm: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.warm, self.folder / "home")
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("ZOO_HOME", str(self.folder / "home"))
        self.store, self.registry = Store(), zoo.ModelRegistry()
        self.values: dict[str, int] = {}
        self.stacks: dict[str, list[str]] = {}
        self.blobs: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.patch.undo()
            shutil.rmtree(self.folder)

    def killed(self, what: str, act: object, at: int, torn: bool) -> bool:
        """Run that in a child and kill it there; whether it came to its end."""

        def acted(answer: Answer) -> None:
            act()  # type: ignore[operator]  # it is a function
            answer("done")

        life = traced(within(self.folder, acted), str(self.folder), End(at, torn=torn))
        toll.count(f"machine: {what}", "torn" if torn else "killed", life)
        return bool(life.said)

    # the store

    @rule(which=st.sampled_from(BODIES))
    def put(self, which: bytes) -> None:
        self.blobs.add(self.store.put([which[:9_000], which[9_000:]]).sha256)

    @rule(which=st.sampled_from(BODIES), at=MOMENTS, torn=st.booleans())
    def put_and_die(self, which: bytes, at: int, torn: bool) -> None:
        if self.killed("put", lambda: Store().put([which[:9_000], which[9_000:]]), at, torn):
            self.blobs.add(hashlib.sha256(which).hexdigest())

    @rule(which=st.sampled_from(BODIES), reached=st.integers(1, 39_999))
    def arrive_in_part(self, which: bytes, reached: int) -> None:
        with suppress(ConnectionError), self.arriving(which) as arrival:
            arrival.resume()
            if arrival.reached < reached:
                arrival.add(which[arrival.reached : reached])
            raise ConnectionError

    @rule(which=st.sampled_from(BODIES))
    def arrive(self, which: bytes) -> None:
        with self.arriving(which) as arrival:
            arrival.resume()
            assert arrival.reached <= len(which)
            if arrival.reached < len(which):
                arrival.add(which[arrival.reached :])
            self.blobs.add(arrival.finish().sha256)

    def arriving(self, which: bytes) -> Arrival:
        return Arrival(self.store, Wanted(hashlib.sha256(which).hexdigest(), len(which)), "https://example.org/file")

    @rule()
    def collect(self) -> None:
        collect(self.store, [registered_blobs()], grace=0.0)
        self.blobs.clear()
        left = {path.name for path in self.folder.glob("home/blobs/sha256/*/*")}
        assert left == {record.sha256 for record in self.registry.list()}

    @rule(at=MOMENTS)
    def collect_and_die(self, at: int) -> None:
        self.killed("gc", lambda: collect(Store(), [registered_blobs()], grace=0.0), at, False)
        self.blobs = {sha256 for sha256 in self.blobs if self.store.find(sha256)}

    # the registry

    @rule(target=taken, version=VERSIONS, value=VALUES)
    def register(self, version: str, value: int) -> object:
        if self.values.get(version, value) != value:
            with pytest.raises(zoo.ZooError, match="overwritten"):
                zoo.register_model(stone(value), name="m", version=version)
            return multiple()
        zoo.register_model(stone(value), name="m", version=version)
        self.values[version] = value
        return version

    @rule(target=taken, version=VERSIONS, value=VALUES, at=MOMENTS, torn=st.booleans())
    def register_and_die(self, version: str, value: int, at: int, torn: bool) -> object:
        if self.values.get(version, value) != value:
            return multiple()
        done = self.killed("register", lambda: zoo.register_model(stone(value), name="m", version=version), at, torn)
        if not done and version not in {record.version for record in self.registry.list()}:
            assert version not in self.values
            return multiple()
        self.values[version] = value
        return version

    @rule(version=taken, alias=ALIASES)
    def promote(self, version: str, alias: str) -> None:
        self.registry.promote("m", version, alias)
        self.push(version, alias)

    @rule(version=taken, alias=ALIASES, at=MOMENTS, torn=st.booleans())
    def promote_and_die(self, version: str, alias: str, at: int, torn: bool) -> None:
        done = self.killed("promote", lambda: zoo.ModelRegistry().promote("m", version, alias), at, torn)
        history = self.registry.history("m", alias)
        if done or (history and history[-1].version == version):
            self.push(version, alias)

    def push(self, version: str, alias: str) -> None:
        stack = self.stacks.setdefault(alias, [])
        if stack[-1:] != [version]:
            stack.append(version)

    @rule(alias=ALIASES)
    def roll_back(self, alias: str) -> None:
        stack = self.stacks.get(alias, [])
        if len(stack) < 2:
            with pytest.raises(zoo.NotFoundError):
                self.registry.rollback("m", alias)
        else:
            stack.pop()
            assert self.registry.rollback("m", alias).version == stack[-1]

    @rule(version=taken, at=st.integers(0, 10_000))
    def spoil_and_mend(self, version: str, at: int) -> None:
        """A flipped bit is found, refused, moved aside; and the same content, registered again, is right again."""
        record = self.registry.show("m", version)
        path = Path(self.store.blob_path(record.sha256))
        body = bytearray(path.read_bytes())
        body[at % len(body)] ^= 1 << at % 8
        os.chmod(path, 0o644)
        path.write_bytes(body)
        os.chmod(path, 0o444)
        with pytest.raises(zoo.DigestError, match="damaged"):
            self.registry.load("m", version)
        (damage,) = self.damages()
        assert damage.sha256 == record.sha256
        assert f"m@{version}" in damage.needed_by
        (mended,) = repair(self.store, [damage])
        assert not mended.mended
        assert not path.exists()
        zoo.register_model(stone(self.values[version]), name="m", version=version)

    @rule(version=taken, value=VALUES)
    def read_beside_a_writer_and_a_collector(self, version: str, value: int) -> None:
        def read(answer: Answer) -> None:
            for _ in range(5):
                answer(value_of(zoo.ModelRegistry().load("m", version)) == self.values[version])

        def write(answer: Answer) -> None:
            reading = os.fork()
            if not reading:
                os._exit(not all(lived(within(self.folder, read))))
            for body in BODIES:
                Store().put([body])
                zoo.register_model(stone(self.values[version]), name="m", version=version)
                collect(Store(), [registered_blobs()], grace=0.0)
            answer(os.waitpid(reading, 0)[1])

        assert lived(within(self.folder, write)) == [0]
        self.blobs.clear()

    @rule()
    def carry_elsewhere(self) -> None:
        if self.values:
            self.registry.export("*", self.folder / "export.zip", every=True)
            other = zoo.ModelRegistry(self.folder / "other")
            other.import_from(self.folder / "export.zip", aliases=True)
            assert [record.sha256 for record in other.list()] == [record.sha256 for record in self.registry.list()]
            for alias, stack in self.stacks.items():
                assert other.show("m", alias).version == stack[-1]
            shutil.rmtree(self.folder / "other")
            (self.folder / "export.zip").unlink()

    def damages(self) -> list[object]:
        found = verify(self.store, registered_versions())
        return [damage for damage in found if damage.kind not in HARMLESS]

    # always

    @invariant()
    def all_is_as_the_oracle_says(self) -> None:
        listed = [record.version for record in self.registry.list()]
        assert listed == sorted(self.values, key=Version.parse, reverse=True)
        for version, value in self.values.items():
            assert value_of(self.registry.load("m", version)) == value
        for alias, stack in self.stacks.items():
            assert self.registry.show("m", alias).version == stack[-1]
        assert all(map(self.store.verify, self.blobs))

    @invariant()
    def nothing_is_half_there(self) -> None:
        assert flaws(self.folder) == []
        assert self.damages() == []


@pytest.mark.skipif(bool(untraceable()), reason=untraceable())
@pytest.mark.parametrize(("examples", "steps"), [(6, 10), pytest.param(15, 20, marks=pytest.mark.long)])
def test_store_and_registry_do_as_a_dictionary_does(warm_home: Path, examples: int, steps: int) -> None:
    FaultMachine.warm = warm_home
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(FaultMachine, settings=chosen)
