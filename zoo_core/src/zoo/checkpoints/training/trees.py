"""State trees as plain data: nested containers and values become JSON, tensors get names in a safetensors file.

Values keep their exact type and bits. What JSON has no word for is an object with one key that begins with `$`:

    {"$tensor": "optimizer.state[0].exp_avg"}    {"$tuple": [0.9, 0.999]}    {"$dict": [[0, {...}], ...]}
"""

from __future__ import annotations

import json
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoints.files import DTYPES
from zoo.checkpoints.writing import is_sharded, tensor_place
from zoo.errors import FormatError, OptionError

DEEPEST = 100
_NATIVE = frozenset(DTYPES.values())
_PAIRS: dict[str, type[dict[Any, Any]]] = {"$dict": dict, "$ordered": OrderedDict, "$counter": Counter}
_LAYOUTS = {"channels_last": torch.channels_last, "channels_last_3d": torch.channels_last_3d}
_LAYOUT_OF = {4: "channels_last", 5: "channels_last_3d"}  # by the number of dimensions
_NUMPY_KINDS = "biufcmM"  # bool, integers, floats, complex, times
_EXACT = 1 << 53  # larger integers are written in hex: other readers of JSON round them
_NAN = struct.pack(">d", float("nan")).hex()


class TreeWriter:
    """Collects trees. `tensors` has what they hold by name; a tensor met twice has one name."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[object, str] = {}
        self._held: list[object] = []  # what is known by its id must not be freed and its id given away
        self._inside: set[int] = set()

    def add(self, value: Any, path: str) -> Any:
        """A tree as plain JSON.

        Args:
            value: dicts, lists, tuples; None, bool, int, float, str; tensors, numpy numbers and arrays;
                torch.Size, dtype and device.
            path: what it is called in errors and tensor names, such as `optimizer`.

        Raises:
            OptionError: anything else; the place in the tree is named.
        """
        if value is None or type(value) in (bool, str):
            return value
        write = _WRITERS.get(type(value))
        if write is not None:
            return write(value)
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if type(value) in (list, tuple, dict, OrderedDict, Counter):
            return self._container(value, path)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMPY_KINDS:
            return self._array(value, path) if isinstance(value, np.ndarray) else _scalar(value)
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise OptionError(
            f"{path} cannot be kept in a checkpoint: it is a {kind}",
            asked=repr(value)[:100],
            fix="numbers, strings, tensors and arrays, in dicts, lists and tuples",
        )

    def _container(self, value: Any, path: str) -> Any:
        if id(value) in self._inside:
            raise OptionError(f"{path} cannot be kept in a checkpoint: it contains itself")
        if len(self._inside) >= DEEPEST:
            raise OptionError(f"{path[:200]} cannot be kept in a checkpoint: more than {DEEPEST} levels deep")
        self._inside.add(id(value))
        try:
            if isinstance(value, dict):
                return self._dict(value, path)
            items = [self.add(item, f"{path}[{i}]") for i, item in enumerate(value)]
            return items if type(value) is list else {"$tuple": items}
        finally:
            self._inside.discard(id(value))

    def _dict(self, value: dict[Any, Any], path: str) -> Any:
        plain = type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value)
        if plain:
            return {key: self.add(item, child(path, key)) for key, item in value.items()}
        word = next(word for word, kind in _PAIRS.items() if type(value) is kind)
        return {word: [[self._key(key, path), self.add(item, child(path, key))] for key, item in value.items()]}

    def _key(self, key: Any, path: str) -> Any:
        if isinstance(key, Tensor | np.ndarray):
            raise OptionError(f"{path} cannot be kept in a checkpoint: one of its keys is a {type(key).__name__}")
        return self.add(key, f"the key {ascii(key)[:50]} of {path}")

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        _check_tensor(tensor, path)
        entry: dict[str, Any] = {"$tensor": path}
        stored = tensor.detach()
        if tensor.dtype not in _NATIVE:
            entry |= {"dtype": _dtype_name(tensor.dtype), "shape": list(tensor.shape)}
            stored = _raw(stored, path)
        elif not tensor.is_contiguous():
            layout = _LAYOUT_OF.get(tensor.dim(), "")
            if layout and tensor.is_contiguous(memory_format=_LAYOUTS[layout]):
                entry["layout"] = layout
        return self._named(stored, tensor, entry, path)

    def _array(self, array: np.ndarray[Any, Any], path: str) -> Any:
        entry = {"$array": path, "dtype": array.dtype.str, "shape": list(array.shape)}
        return self._named(torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy()), array, entry, path)

    def _named(self, stored: Tensor, original: Any, entry: dict[str, Any], path: str) -> dict[str, Any]:
        word = next(iter(entry))
        place = tensor_place(original) if isinstance(original, Tensor) else id(original)
        if place in self._names:
            return {**entry, word: self._names[place]}
        self._names[place] = path
        self._held.append(original)
        self.tensors[path] = stored
        return entry


class TreeReader:
    """Builds trees again, with tensors of their own. A name met twice is the same tensor.

    Args:
        tensors: by the names that a `TreeWriter` gave them. where: what they came from, for errors.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        self.tensors, self.where = tensors, where
        self._built: dict[str, Any] = {}

    def read(self, structure: Any) -> Any:
        """The tree that `TreeWriter.add` was given. Raises `FormatError` for anything it would not have written."""
        try:
            return self._read(structure)
        except FormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, RecursionError) as error:
            raise FormatError(f"{self.where} is damaged: {type(error).__name__}: {str(error)[:100]}") from None

    def _read(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._read(item) for item in node]
        if not isinstance(node, dict):
            return node
        word = next((key for key in node if key.startswith("$")), None)
        if word is None:
            return {key: self._read(item) for key, item in node.items()}
        value = node[word]
        if word in _PAIRS:
            return _PAIRS[word]({self._read(key): self._read(item) for key, item in value})
        if word == "$tuple":
            return tuple(self._read(item) for item in value)
        if word in ("$tensor", "$array"):
            name = str(value)
            if name not in self._built:
                self._built[name] = self._stored(word, node, self.tensors[name])
            return self._built[name]
        if word == "$scalar":
            return np.frombuffer(bytes.fromhex(node["hex"]), _numpy_dtype(value))[0]
        return _READERS[word](value)

    def _stored(self, word: str, node: dict[str, Any], stored: Tensor) -> Any:
        if word == "$array":
            flat = np.frombuffer(stored.numpy().tobytes(), _numpy_dtype(node["dtype"]))
            return flat.reshape(node["shape"]).copy()
        # Each in its own memory, as it was made: sums over memory that is aligned otherwise come to other bits.
        if "dtype" in node:
            return stored.clone().view(_torch_dtype(node["dtype"])).reshape(node["shape"])
        return stored.clone(memory_format=_LAYOUTS[node["layout"]] if "layout" in node else torch.preserve_format)


def structure_text(structure: Mapping[str, Any]) -> bytes:
    """What `TreeWriter.add` gave, as the bytes of a JSON file."""
    return json.dumps(structure, separators=(",", ":"), allow_nan=False).encode()


def holds_tensors(structure: Any) -> bool:
    """Whether a tree as plain JSON mentions any tensor or array."""
    if isinstance(structure, list):
        return any(map(holds_tensors, structure))
    if isinstance(structure, dict):
        return not structure.keys().isdisjoint(("$tensor", "$array")) or any(map(holds_tensors, structure.values()))
    return False


def _check_tensor(tensor: Tensor, path: str) -> None:
    fault, fix = "", "a dense tensor"
    if torch.nn.parameter.is_lazy(tensor):
        fault, fix = "it has no shape yet", "run one batch through the model first"
    elif tensor.is_meta:
        fault, fix = "it has no data: it is on the meta device", "load or initialise it first"
    elif type(tensor) not in (Tensor, torch.nn.Parameter) and not is_sharded(tensor):
        fault = f"it is a {type(tensor).__module__}.{type(tensor).__qualname__}"
    elif tensor.layout != torch.strided or tensor.is_quantized:
        fault = f"it is a tensor of layout {tensor.layout}, dtype {tensor.dtype}"
    if fault:
        raise OptionError(f"{path} cannot be kept in a checkpoint: {fault}", fix=fix)


def _raw(tensor: Tensor, path: str) -> Tensor:
    """A tensor of a dtype that safetensors has no word for, as its bytes."""
    try:
        return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    except RuntimeError:
        raise OptionError(f"{path} cannot be kept in a checkpoint: it is a tensor of {tensor.dtype}") from None


def child(path: str, key: Any) -> str:
    """What a dict's value is called: `state.step`, `state[0]`, `state['a b']`."""
    if type(key) is str and key.isidentifier():
        return f"{path}.{key}"
    return f"{path}[{key!a}]"


def _write_int(value: int) -> Any:
    return value if abs(value) < _EXACT else {"$int": hex(value)}


def _write_float(value: float) -> Any:
    if value - value == 0:  # finite
        return value
    bits = struct.pack(">d", value).hex()
    return {"$float": bits if value != value and bits != _NAN else repr(value)}


def _read_float(text: str) -> float:
    return float(text) if text in ("nan", "inf", "-inf") else float(struct.unpack(">d", bytes.fromhex(text))[0])


def _scalar(value: np.generic) -> Any:
    return {"$scalar": value.dtype.str, "hex": value.tobytes().hex()}


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name!r} is no dtype")
    return dtype


def _numpy_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in _NUMPY_KINDS:
        raise TypeError(f"{name!r} is no dtype of numbers")
    return dtype


_WRITERS: dict[type, Callable[[Any], Any]] = {
    int: _write_int,
    float: _write_float,
    torch.Size: lambda value: {"$size": list(value)},
    torch.dtype: lambda value: {"$dtype": _dtype_name(value)},
    torch.device: lambda value: {"$device": str(value)},
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "$int": lambda text: int(text, 16),
    "$float": _read_float,
    "$size": torch.Size,
    "$dtype": _torch_dtype,
    "$device": torch.device,
}
