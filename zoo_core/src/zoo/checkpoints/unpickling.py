"""The inert unpickler: what a pickle says, with nothing done about it.

A pickle is a program for a stack machine, and its instructions import what they name and call it. This machine has the
same stack and the same instructions, but none that imports, calls or sets an attribute: a name becomes a `Name`, a call
or an object a `Record` of what was to be called, with what, and the state it was to be given. Tensors are records too;
`zoo.checkpoints.torch_files` builds those it knows, from its own code.

`pickle.Unpickler` with a `find_class` of our own would serve less well. It calls whatever find_class gives, also when
the file puts an innocent object in its place; it sets attributes and items on them; it grows its memo to the largest
index that the file names, and reserves what a length announces. Here the only objects are plain containers and the two
classes below, the memo is a dict, a length is compared with what is left of the file before it is believed, and every
instruction adds one object at most, of which there may be `MAX_STEPS`; what an instruction makes of what is there
already, a name of two strings, is held to `MAX_NAME`. So there is nothing to run and a bound to what is kept. The
standard library's `pickletools` splits the file into instructions; it interprets none.

Lists and mappings may be nested to any depth and contain themselves: whoever walks them minds both. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pickletools import genops
from typing import Any, Protocol

from zoo.errors import FormatError

MAX_STEPS = 3_000_000
"""Instructions a pickle may have. A released detector has some 20,000, a tensor takes about 30."""

MAX_PICKLE = 256_000_000
"""Bytes of instructions; the tensors' own bytes lie elsewhere."""

MAX_LINE = 1_000_000
MAX_NAME = 1000
MAX_TUPLES = 200


class Name:
    """A class, function or other thing that the file names: `module.qualname`. It was not looked up."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Name({self.text!r})"


class Record:
    """An object as the file describes it.

    Attributes:
        name: what was to be called or instantiated; empty where that was itself no plain name.
        args: with what. state: what the object was to be given afterwards, or None.
        entries: what was to be set under keys, for mappings. items: what was to be appended, for lists and sets.
    """

    __slots__ = ("args", "entries", "items", "name", "state")

    def __init__(self, name: str, args: Any = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.entries: dict[Any, Any] | None = None
        self.items: list[Any] | None = None

    def __repr__(self) -> str:
        return f"Record({self.name!r})"


class Persistent:
    """What lies outside the pickle under some identity, as torch's storages do."""

    __slots__ = ("identity",)

    def __init__(self, identity: Any) -> None:
        self.identity = identity


class Bytes(Protocol):
    """What a pickle is read from: bytes, or a mapped file."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


class Tape:
    """A place in some bytes, from which pickles are read one after the other. at: the first byte not read."""

    def __init__(self, data: Bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = min(len(data) if end is None else end, at + MAX_PICKLE)

    def read(self, count: int) -> bytes:
        """So many bytes, or none if there are not so many."""
        if not 0 <= count <= self.end - self.at:
            return b""
        self.at += count
        return self.data[self.at - count : self.at]

    def readline(self) -> bytes:
        """Up to the next line's end, or nothing if there is none near."""
        found = self.data.find(b"\n", self.at, min(self.end, self.at + MAX_LINE))
        return self.read(found + 1 - self.at) if found >= 0 else b""

    def tell(self) -> int:
        """The place."""
        return self.at


class Unpickled:
    """What a pickle holds.

    root: the object. outside: every reference to something outside, in order. called: the names of all that was to be
    called or instantiated; an empty one for what had no plain name. orderly: there are no sets, mappings are filled
    item by item, and no key had to be replaced by a record: whoever builds them really compares few keys.
    """

    def __init__(self, root: Any, outside: list[Persistent], called: set[str], orderly: bool) -> None:
        self.root, self.outside, self.called, self.orderly = root, outside, called, orderly


def unpickle(tape: Tape, where: str) -> Unpickled:
    """Read one pickle, up to its end, and do nothing that it says.

    Returns:
        Plain Python values (None, bool, int, float, str, bytes, list, tuple, dict) and `Name`, `Record`, `Persistent`.

    Raises:
        FormatError: it is damaged, or longer than any checkpoint's.
    """
    machine = _Machine()
    try:
        for step, (opcode, value, _) in enumerate(genops(tape)):  # type: ignore[arg-type]  # it wants no more of a file
            if step >= MAX_STEPS:
                raise ValueError(f"it has more than {MAX_STEPS} instructions")
            machine.step(opcode.name, value)
        return Unpickled(machine.stack.pop(), machine.outside, machine.called, machine.orderly)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, Warning) as error:
        raise FormatError(
            f"{where}: not a sound pickle: {str(error)[:120] or type(error).__name__}",
            fix="fetch the file again; if it stays so, it is damaged at its origin",
        ) from None


class _Machine:
    """The stack, the marks in it and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.outside: list[Persistent] = []
        self.called: set[str] = set()
        self.orderly = True
        self.nested: dict[int, tuple[Any, int]] = {}  # tuples that hold tuples, by id, and how deep

    def step(self, name: str, value: Any) -> None:
        """One instruction with its argument."""
        if name in _LITERALS:
            self.stack.append(value)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUT:
            self.memo[len(self.memo) if name == "MEMOIZE" else value] = self.stack[-1]
        elif name in _GET:
            self.stack.append(self.memo[value])
        elif name in _STEPS:
            _STEPS[name](self, value)
        elif name not in _NOTHING:
            raise ValueError(f"{name} stands for something outside the file")

    def since_mark(self) -> list[Any]:
        """What was pushed after the last mark, taken off."""
        begin = self.marks.pop()
        taken = self.stack[begin:]
        del self.stack[begin:]
        return taken

    def some(self, count: int) -> list[Any]:
        """The last so many, taken off."""
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def record(self, called: Any, args: Any) -> None:
        """A call or an object, as it was to be made."""
        name = called.text if isinstance(called, Name) else ""
        self.called.add(name)
        if args and name == "collections.OrderedDict":  # made of items whose keys nobody has looked at
            self.orderly = False
        self.stack.append(Record(name, args))

    def container(self, name: str, items: list[Any]) -> None:
        """A set, which is not made: what it holds would have to be compared."""
        self.orderly = False
        made = Record(name)
        made.items = items
        self.stack.append(made)

    def pairs(self, items: list[Any]) -> dict[Any, Any]:
        """Keys and values in turn, as a mapping."""
        if len(items) % 2:
            raise ValueError("a key has no value")
        keys = [_key(key) for key in items[::2]]
        if any(key is not given for key, given in zip(keys, items[::2], strict=True)):
            self.orderly = False
        return dict(zip(keys, items[1::2], strict=True))

    def nest(self, items: list[Any]) -> None:
        """A tuple. Python takes the hash of one by recursion without a bound, so their depth has one here."""
        made = tuple(items)
        inner = [self.nested.get(id(item), (item, 1))[1] for item in items if type(item) is tuple]
        if inner:
            depth = 1 + max(inner)
            if depth > MAX_TUPLES:
                raise ValueError(f"it nests tuples more than {MAX_TUPLES} deep")
            self.nested[id(made)] = (made, depth)
        self.stack.append(made)

    def append(self, items: list[Any]) -> None:
        """To the list or the set that is on top."""
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items = [] if target.items is None else target.items
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise ValueError("it appends to what is no list")

    def set_items(self, items: list[Any]) -> None:
        """In the mapping that is on top."""
        target = self.stack[-1]
        if isinstance(target, Record):
            target.entries = {} if target.entries is None else target.entries
            target.entries.update(self.pairs(items))
        elif isinstance(target, dict):
            target.update(self.pairs(items))
        else:
            raise ValueError("it sets items of what is no mapping")

    def build(self, state: Any) -> None:
        """A state for the object that is on top."""
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state

    def named(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names something by what is no text")
        if len(module) + len(name) > MAX_NAME:
            raise ValueError(f"it names something by more than {MAX_NAME} characters")
        self.stack.append(Name(f"{module}.{name}"))

    def refer(self, identity: Any) -> None:
        reference = Persistent(identity)
        self.outside.append(reference)
        self.stack.append(reference)


def _key(value: Any) -> Any:
    """A key that can be compared at no cost and with no depth; anything else stands for itself alone."""
    kind = type(value)
    if kind in _KEYS or (kind is int and -_LARGE < value < _LARGE):
        return value
    if kind is tuple and len(value) < 16 and all(type(v) in _SECRET for v in value):
        return value
    return Record("key", (value,))


def _instance(machine: _Machine, called: str) -> None:  # INST: "module name"
    args = tuple(machine.since_mark())
    machine.record(Name(called.replace(" ", ".", 1)), args)


def _object(machine: _Machine) -> None:
    called, *args = machine.since_mark()
    machine.record(called, tuple(args))


def _with_keywords(machine: _Machine) -> None:
    called, args, keywords = machine.some(3)
    machine.record(called, (args, keywords))


_LARGE = 1 << 60  # below it an int is its own hash, so that no file makes thousands of keys fall together
_KEYS = frozenset((str, bytes, float, bool, type(None), Name, Record, Persistent))
_SECRET = frozenset((str, bytes, bool, type(None)))  # a tuple's hash is no secret where those of its items are none
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))
_NOTHING = frozenset(("PROTO", "FRAME", "STOP"))
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: _pop(m),
    "POP_MARK": lambda m, _: _ignore(m.since_mark()),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "TUPLE": lambda m, _: m.nest(m.since_mark()),
    "TUPLE1": lambda m, _: m.nest(m.some(1)),
    "TUPLE2": lambda m, _: m.nest(m.some(2)),
    "TUPLE3": lambda m, _: m.nest(m.some(3)),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "DICT": lambda m, _: m.push(m.pairs(m.since_mark())),
    "EMPTY_SET": lambda m, _: m.container("builtins.set", []),
    "FROZENSET": lambda m, _: m.container("builtins.frozenset", m.since_mark()),
    "APPEND": lambda m, _: m.append(m.some(1)),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "ADDITEMS": lambda m, _: m.append(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items(m.some(2)),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, value: m.named(*value.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.named(*m.some(2)),
    "EXT1": lambda m, value: m.named("extension", str(value)),
    "EXT2": lambda m, value: m.named("extension", str(value)),
    "EXT4": lambda m, value: m.named("extension", str(value)),
    "REDUCE": lambda m, _: m.record(*m.some(2)),
    "NEWOBJ": lambda m, _: m.record(*m.some(2)),
    "NEWOBJ_EX": lambda m, _: _with_keywords(m),
    "INST": _instance,
    "OBJ": lambda m, _: _object(m),
    "BUILD": lambda m, _: m.build(m.stack.pop()),
    "PERSID": lambda m, value: m.refer(value),
    "BINPERSID": lambda m, _: m.refer(m.stack.pop()),
}


def _ignore(items: list[Any]) -> None:
    pass


def _pop(machine: _Machine) -> None:
    """POP takes a mark off as well, where one is on top."""
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()
