"""The inert unpickler: it says what a pickle holds, does nothing that it says, and stays within bounds."""

from __future__ import annotations

import copyreg
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from zoo.checkpoints.unpickling import Name, Persistent, Record, Tape, unpickle
from zoo.errors import FormatError

QUIET = settings(deadline=None, max_examples=200)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(-9, 9), inner, max_size=4)
    ),
)


def read(raw: bytes) -> Any:
    """What a pickle holds."""
    return unpickle(Tape(raw), "here").root


@QUIET
@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    raw = pickle.dumps(value, protocol)
    if b"_codecs" not in raw and b"bytes" not in raw:  # how protocols before 3 write bytes: by a call
        assert read(raw) == value


class Seen:
    """Everything that leaves a trace when it is unpickled."""

    calls: list[str] = []  # noqa: RUF012  # what is recorded is recorded for the class

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.calls.append("new")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.calls.append("setstate")

    def __setattr__(self, name: str, value: Any) -> None:
        self.calls.append("setattr")

    def __reduce__(self) -> Any:
        return (trace, ("x",), {"a": 1}, iter([1]), iter([("k", 2)]))

    def append(self, value: Any) -> None:
        self.calls.append("append")

    def extend(self, values: Any) -> None:
        self.calls.append("extend")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.calls.append("setitem")

    def __hash__(self) -> int:
        self.calls.append("hash")
        return 1


def trace(text: str) -> Any:
    """The canary."""
    Seen.calls.append(text)
    return Seen()


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """No trace is left by any test here."""
    read(b"Vx\n.")  # Python imports a codec of its own on first use
    before = set(sys.modules)
    Seen.calls.clear()
    yield
    assert Seen.calls == []
    assert {name for name in set(sys.modules) - before if not name.startswith(("hypothesis", "_hypothesis"))} == set()


def call(module: str, name: str, *args: Any) -> bytes:
    """A pickle of a call."""
    return f"c{module}\n{name}\n".encode() + pickle.dumps(args, 0)[:-1] + b"R."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_object_is_a_record_of_its_making(protocol: int) -> None:
    instance = object.__new__(Seen)
    raw = pickle.dumps(instance, protocol)
    Seen.calls.clear()
    record = read(raw)
    assert isinstance(record, Record)
    assert (record.name, record.args) == (f"{__name__}.trace", ("x",))
    assert (record.state, record.items, record.entries) == ({"a": 1}, [1], {"k": 2})


CANARY = f"{__name__}\ntrace\n".encode()
ATTACKS = {
    "os.system": call("os", "system", "touch /tmp/ran"),
    "posix.system": call("posix", "system", "touch /tmp/ran"),
    "eval": call("builtins", "eval", "1/0"),
    "exec": call("__builtin__", "exec", "1/0"),
    "import": call("builtins", "__import__", "antigravity"),
    "a module that is not there": call("antigravity", "fly"),
    "subprocess": call("subprocess", "Popen", ["touch", "/tmp/ran"]),
    "reduce": b"c" + CANARY + b"(Vx\ntR.",
    "a name on the stack": b"\x80\x04\x8c" + bytes([len(__name__)]) + __name__.encode() + b"\x8c\x05trace\x93(Vx\ntR.",
    "dotted names": b"\x80\x04\x8c\x02os\x8c\x0bpath.os.sys\x93)R.",
    "inst": b"(Vx\ni" + CANARY + b".",
    "obj": b"(c" + CANARY + b"Vx\no.",
    "newobj": b"\x80\x02c" + CANARY.replace(b"trace", b"Seen") + b")\x81.",
    "newobj with keywords": b"\x80\x04c" + CANARY.replace(b"trace", b"Seen") + b")}\x92.",
    "build": b"\x80\x02c" + CANARY.replace(b"trace", b"Seen") + b")\x81}Va\nK\x01sb.",
    "build of a name": b"c" + CANARY.replace(b"trace", b"Seen") + b"}Vcalls\nNsb.",
    "slots": b"\x80\x02c" + CANARY.replace(b"trace", b"Seen") + b")\x81N}Va\nK\x01s\x86b.",
    "append": b"\x80\x02c" + CANARY.replace(b"trace", b"Seen") + b")\x81K\x01a.",
    "setitem": b"\x80\x02c" + CANARY.replace(b"trace", b"Seen") + b")\x81K\x01K\x02s.",
    "as a key": b"}c" + CANARY.replace(b"trace", b"Seen") + b")\x81K\x02s.",
    "a call of a call": b"cbuiltins\ngetattr\n(c" + CANARY + b"V__call__\ntR(Vx\ntR.",
    "a call of what was built": b"\x80\x02c" + CANARY + b")\x81(Vx\ntR.",
    "copyreg": call("copyreg", "_reconstructor", 1, 2, 3),
    "bytes by a call": pickle.dumps(b"x", 2),
    "an extension": b"\x80\x02\x82\x01)R.",
    "a long extension": b"\x80\x02\x84\x01\x01\x01\x01)R.",
}


@pytest.mark.parametrize("raw", ATTACKS.values(), ids=ATTACKS)
def test_nothing_a_pickle_says_is_done(raw: bytes) -> None:
    copyreg._extension_registry[__name__, "trace"] = 1
    copyreg._inverted_registry[1] = (__name__, "trace")
    try:
        root = read(raw)
    finally:
        del copyreg._extension_registry[__name__, "trace"]
        del copyreg._inverted_registry[1]
    assert isinstance(root, Record | Name | dict)
    assert not os.path.exists("/tmp/ran")


AUDITED = r"""
import json, sys
from zoo.checkpoints.unpickling import Tape, unpickle
raws = [bytes.fromhex(text) for text in json.load(sys.stdin)]
unpickle(Tape(b"Vx\n."), "here")  # Python imports a codec of its own on first use
events = []
sys.addaudithook(lambda event, args: events.append(event))
for raw in raws:
    unpickle(Tape(raw), "here")
print(json.dumps(events))
"""


def test_the_interpreter_sees_no_import_no_call_and_no_file() -> None:
    """By Python's own audit, in which every import, compilation, file, process and attribute of a class shows."""
    raws = json.dumps([raw.hex() for raw in ATTACKS.values()])
    done = subprocess.run([sys.executable, "-c", AUDITED], input=raws, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_containers_of_classes_keep_what_was_put_in() -> None:
    ordered = read(pickle.dumps(OrderedDict(a=1), 2))
    assert (ordered.name, ordered.entries) == ("collections.OrderedDict", {"a": 1})
    grouped = read(pickle.dumps(defaultdict(list, a=[1]), 4))
    assert (grouped.name, grouped.entries) == ("collections.defaultdict", {"a": [1]})
    assert sorted(read(pickle.dumps({1, 2}, 4)).items) == [1, 2]
    assert sorted(read(pickle.dumps({1, 2}, 2)).args[0]) == [1, 2]


def test_what_lies_outside_is_listed() -> None:
    read_back = unpickle(Tape(b"(Vstorage\nK\x05tQ."), "here")
    assert [p.identity for p in read_back.outside] == [("storage", 5)]
    assert isinstance(read_back.root, Persistent)


def test_pickles_follow_one_another_on_a_tape() -> None:
    tape = Tape(pickle.dumps(1) + pickle.dumps([2]) + b"rest")
    assert [unpickle(tape, "here").root for _ in range(2)] == [1, [2]]
    assert tape.read(4) == b"rest"


DAMAGED = [
    b"",
    b".",
    b"}",
    b"hello",
    b"\x80",
    b"]]a",
    b"K\x01K\x02a.",
    b"K\x01(K\x02K\x03u.",
    b"}(K\x01u.",
    b"t.",
    b"0.",
]
DAMAGED += [b"g5\n.", b"j\x01\0\0\0.", b"R.", b"cos\n.", b"NN\x93.", b"\x97.", b"]\x98.", b"\xff.", b"I1\n", b"Ix\n."]
DAMAGED += [b"L" + b"9" * 9000 + b"L\n.", b"V" + b"x" * 2_000_000 + b"\n.", b"\x8c\x05ab.", b"X\x02\0\0\0\xff\xfe."]


@pytest.mark.parametrize("raw", DAMAGED, ids=range(len(DAMAGED)))
def test_damage_is_a_format_error_that_names_the_file(raw: bytes) -> None:
    with pytest.raises(FormatError, match="here: not a sound pickle"):
        read(raw)


def peak(work: Callable[[], Any]) -> int:
    """Bytes that Python held at most meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LIES = {
    "bytes": b"\x8e" + struct.pack("<Q", 1 << 40),
    "more bytes": b"\x8e" + struct.pack("<Q", (1 << 64) - 1),
    "a string": b"\x8d" + struct.pack("<Q", 1 << 40),
    "a short string": b"X" + struct.pack("<I", (1 << 32) - 1),
    "a byte array": b"\x96" + struct.pack("<Q", 1 << 40),
    "a number": b"\x8b" + struct.pack("<i", (1 << 31) - 1),
    "a negative number": b"\x8b" + struct.pack("<i", -1),
    "a negative string": b"T" + struct.pack("<i", -5),
}


@pytest.mark.parametrize("start", LIES.values(), ids=LIES)
def test_a_length_that_lies_reserves_nothing(start: bytes) -> None:
    def work() -> None:
        with pytest.raises(FormatError):
            read(start + b"x" * 1000 + b".")

    assert peak(work) < 1_000_000


def test_a_large_place_in_the_memo_costs_nothing() -> None:
    assert peak(lambda: read(b"]r\xff\xff\xff\xffp99999999999999999999\n.")) < 100_000
    assert read(b"]r\xff\xff\xff\xff0j\xff\xff\xff\xff.") == []


def test_a_frame_that_lies_is_ignored() -> None:
    assert read(b"\x80\x04\x95" + struct.pack("<Q", (1 << 64) - 1) + b"K\x01.") == 1


def test_laughs_are_not_multiplied() -> None:
    raw = b"]q\0" + b"".join(
        b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1]) for i in range(200)
    )
    assert peak(lambda: read(raw + b".")) < 1_000_000


def test_a_name_is_not_made_longer_than_names_are() -> None:
    """Two strings that are there once, and are put together a thousand times."""
    raw = (
        b"\x80\x04(X" + struct.pack("<I", 100_000) + b"m" * 100_000 + b"q\0X\1\0\0\0nq\1" + b"h\0h\1\x93" * 1000 + b"l."
    )

    def work() -> None:
        with pytest.raises(FormatError, match="more than 1000 characters"):
            read(raw)

    assert peak(work) < 5_000_000


def test_a_pickle_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.checkpoints.unpickling.MAX_STEPS", 1000)
    with pytest.raises(FormatError, match="more than 1000 instructions"):
        read(b"]" * 5000 + b".")
    monkeypatch.setattr("zoo.checkpoints.unpickling.MAX_PICKLE", 100)
    with pytest.raises(FormatError):
        read(b"X\xff\0\0\0" + b"x" * 255 + b".")


NESTED = """
from zoo.checkpoints.unpickling import Tape, unpickle
from zoo.errors import FormatError
for open_, close in ((b"]", b"a"), (b"}Vk\\n", b"s"), (b"cx\\ny\\n]", b"aR")):
    root = unpickle(Tape(open_ * 40_000 + b"N" + close * 40_000 + b"."), "here").root
    del root
deep = b"(" * 200_000 + b"t" * 200_000
for raw in (b"}" + deep + b"Ns.", b"\\x80\\x04\\x8f(" + deep + b"\\x90.", b"}(" + deep + b"tNs.", deep + b"."):
    try:
        unpickle(Tape(raw), "here")
    except FormatError as error:
        assert "nests tuples" in str(error)
    else:
        raise SystemExit("read")
print("alive")
"""


def test_any_depth_is_survived() -> None:
    """In a process of its own: what goes wrong here is a crash of the interpreter."""
    done = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n", done.stderr[-500:]


def test_keys_that_fall_together_are_kept_apart() -> None:
    """Such ints all hash to 0; a dict of them takes a time that grows with the square of their number."""
    modulus = (1 << 61) - 1
    raw = b"}(" + b"".join(b"\x8a\x10" + (i * modulus).to_bytes(16, "little") + b"N" for i in range(1, 20_001)) + b"u."
    found = read(raw)
    assert len(found) == 20_000
    assert all(isinstance(key, Record) for key in found)


def test_tuples_of_numbers_that_fall_together_are_kept_apart_too() -> None:
    found = read(
        b"}(" + b"".join(b"\x8a\x10" + (i << 61).to_bytes(16, "little") + b"\x85N" for i in range(1, 9)) + b"u."
    )
    assert [type(key) for key in found] == [Record] * 8


@pytest.mark.parametrize(
    ("raw", "orderly"),
    [
        (b"}(Va\nNu.", True),
        (b"}(Va\n\x85Nu.", True),
        (b"ccollections\nOrderedDict\n)R(Va\nNu.", True),
        (b"}(\x8a\x10" + b"\x7f" * 16 + b"Nu.", False),
        (b"(\x8a\x10" + b"\x7f" * 16 + b"Nd.", False),
        (b"}(K\1\x85Nu.", False),
        (b"ccollections\nOrderedDict\n(](](K\1K\2eetR.", False),
        (b"\x8f(K\1\x90.", False),
        (b"(K\1\x91.", False),
    ],
    ids=["text", "tuples of text", "items", "large", "large at once", "tuples", "a call", "a set", "a frozen set"],
)
def test_a_pickle_is_orderly_whose_keys_cost_nothing_to_compare(raw: bytes, orderly: bool) -> None:
    assert unpickle(Tape(raw), "here").orderly is orderly


def test_a_container_may_contain_itself() -> None:
    itself: list[Any] = []
    itself.append(itself)
    found = read(pickle.dumps(itself))
    assert found[0] is found


REAL = pickle.dumps({"a": [1, 2.5, "x", b"y"], "o": OrderedDict(k=Name("x")), "e": ValueError("z")}, 2)


@QUIET
@given(st.integers(0, len(REAL)), st.binary(max_size=6), st.integers(0, 6))
def test_any_damage_is_a_format_error_or_harmless(at: int, put: bytes, cut: int) -> None:
    with suppress(FormatError):
        read(REAL[:at] + put + REAL[at + cut :])


@QUIET
@given(st.lists(st.sampled_from([op.code.encode("latin-1") for op in pickletools.opcodes]) | st.binary(max_size=5)))
def test_any_instructions_are_a_format_error_or_harmless(parts: list[bytes]) -> None:
    with suppress(FormatError):
        read(b"c" + CANARY + b"".join(parts) + b".")
