"""From live objects to what is written: names, tensors, plain data. Nothing is copied and no random number is drawn."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from zoo.checkpoints.files import DTYPES
from zoo.checkpoints.training.randomness import Generator, generator_state, random_state, set_random_state
from zoo.checkpoints.training.trees import TreeWriter
from zoo.checkpoints.writing import is_sharded, tensor_place
from zoo.errors import OptionError, ZooError

NATIVE = "native"


@runtime_checkable
class Stateful(Protocol):
    """Optimizers, schedulers, scalers, averaged models: what gives its state and takes it back."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


Several = Stateful | Mapping[str, Stateful] | Sequence[Stateful] | None
"""One, or several by name or in order, as two optimizers of one run are; or none."""


class Training(NamedTuple):
    """The live objects of a run."""

    model: nn.Module | None
    optimizer: Several = None
    scheduler: Several = None
    scaler: Several = None
    ema: Several = None
    generators: Mapping[str, Generator] | None = None

    def parts(self) -> dict[str, Stateful]:
        """Everything but the model and the generators, each under a name of its own: `optimizer`, `ema[0]` …

        Raises:
            OptionError: something without `state_dict` and `load_state_dict`.
        """
        found: dict[str, Stateful] = {}
        for word in ("optimizer", "scheduler", "scaler", "ema"):
            value = getattr(self, word)
            if isinstance(value, Mapping):
                found |= {f"{word}[{name!r}]": part for name, part in value.items()}
            elif isinstance(value, list | tuple):
                found |= {f"{word}[{number}]": part for number, part in enumerate(value)}
            elif value is not None:
                found[word] = value
        for name, part in found.items():
            if not isinstance(part, Stateful):
                raise OptionError(
                    f"{name} is a {type(part).__name__}, which has no state_dict() and load_state_dict()",
                    fix=f"{name.partition('[')[0]}=None where there is none",
                )
        return found

    @property
    def sharded(self) -> bool:
        """Whether the model is spread over processes."""
        return self.model is not None and any(is_sharded(p) for p in self.model.parameters())


class Contents(NamedTuple):
    """What one save writes.

    weights: the model's tensors, by its own names. metadata: strings in that file. config: the description of a zoo
    model. tensors: all others, by their places in the trees. structure: the trees, as plain JSON.
    """

    weights: dict[str, Tensor]
    metadata: dict[str, str]
    config: str | None
    tensors: dict[str, Tensor]
    structure: dict[str, Any]

    @property
    def sharded(self) -> bool:
        """Whether any tensor is spread over processes."""
        return any(is_sharded(tensor) for tensor in [*self.weights.values(), *self.tensors.values()])

    def copied(self) -> Contents:
        """The same with every tensor copied to this process's own CPU memory; tied ones stay tied."""
        copies: dict[object, Tensor] = {}
        return self._replace(weights=_copied(self.weights, copies), tensors=_copied(self.tensors, copies))


class _Description(NamedTuple):
    """A model's description as JSON, or why there is none, and what it was made of: frozen records, names, shapes."""

    made_of: tuple[Any, ...]
    text: str | None
    fault: str


_DESCRIBED: WeakKeyDictionary[nn.Module, _Description] = WeakKeyDictionary()


def capture(training: Training, extra: Any) -> Contents:
    """What a save of these objects, at this moment, holds. The tensors are the live ones.

    Raises:
        OptionError: something that cannot be kept; its place is named.
    """
    if not isinstance(training.model, nn.Module):
        raise OptionError(
            f"a checkpoint is of a model; this is a {type(training.model).__name__}", fix="save_checkpoint(model, …)"
        )
    randomness = random_state()
    trees = TreeWriter()
    model = bare(training.model)
    weights, others = split(model)
    structure: dict[str, Any] = {
        "model": {"type": type_name(model), "others": trees.add(others, "model")},
        "parts": {name: _part(trees, name, part, model) for name, part in training.parts().items()},
        "random": trees.add(randomness, "random"),
        "generators": {
            name: trees.add(generator_state(name, generator), f"generators[{name!r}]")
            for name, generator in (training.generators or {}).items()
        },
        "extra": trees.add(extra, "extra"),
    }
    config = None if training.sharded else _config(model, weights, randomness)  # a sharded model's class is torch's
    return Contents(weights, _metadata(model), config, trees.tensors, structure)


def bare(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]  # torch.compile's wrapper
        else:
            return model


def split(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's state: the tensors that a safetensors file holds, and everything else.

    Raises:
        OptionError: parameters without shape or data.
    """
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for name, value in state.items():
        checked = isinstance(value, Tensor) and value.dtype in DTYPES.values() and value.layout == torch.strided
        plain = checked and type(value) in (Tensor, nn.Parameter) and not value.is_meta and not value.is_quantized
        if plain or (checked and is_sharded(value)):
            weights[name] = value
        else:
            others[name] = value
    return weights, {"state": others, "versions": dict(getattr(state, "_metadata", {}))}


def type_name(value: object) -> str:
    """`torch.optim.adamw.AdamW`"""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def parameter_rows(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> list[list[Any]]:
    """Of every parameter, in the optimizer's order: [group, its name in the model or None, shape, dtype]."""
    return [
        [number, names.get(id(p)), list(p.shape), str(p.dtype).removeprefix("torch.")]
        for number, group in enumerate(optimizer.param_groups)
        for p in group["params"]
    ]


def parameter_names(model: nn.Module | None) -> dict[int, str]:
    """The names of a model's parameters by their ids."""
    return {} if model is None else {id(p): name for name, p in bare(model).named_parameters()}


def _part(trees: TreeWriter, name: str, part: Stateful, model: nn.Module) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": type_name(part)}
    if isinstance(part, nn.Module):
        state = part.state_dict()
        return entry | {
            "state": trees.add(dict(state), name),
            "versions": trees.add(dict(getattr(state, "_metadata", {})), f"{name}._metadata"),
        }
    if isinstance(part, torch.optim.Optimizer):
        entry["parameters"] = parameter_rows(part, parameter_names(model))
    return entry | {"state": trees.add(part.state_dict(), name)}


def _config(model: nn.Module, weights: Mapping[str, Tensor], randomness: Mapping[str, Any]) -> str | None:
    """The description of a zoo model; made anew only where what it is made of is not what it was at the last save."""
    describe: Callable[[str], dict[str, Any]] | None = getattr(model, "description", None)
    if not callable(describe):
        return None
    made_of = (
        repr(getattr(model, "config", None)),
        *(getattr(model, word, None) for word in ("input_spec", "label_space", "provenance")),
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
    )
    known = _DESCRIBED.get(model)
    if known is None or known.made_of != made_of:
        try:
            known = _Description(made_of, json.dumps(describe(NATIVE), indent=1, sort_keys=True) + "\n", "")
        except Exception as error:  # a class of the caller's is built once more for it, and whatever that raises
            what = error.message if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            known = _Description(made_of, None, what)
        finally:
            set_random_state(randomness)  # what was built may have drawn
        _DESCRIBED[model] = known
    if known.fault:
        warnings.warn(
            f"the checkpoint will resume this run, but zoo.create() cannot build a model from it: {known.fault}",
            stacklevel=5,
        )
    return known.text


def _metadata(model: nn.Module) -> dict[str, str]:
    provenance = getattr(model, "provenance", None)
    to_json = getattr(provenance, "to_json", None)
    return {"zoo_format": NATIVE} | ({"provenance": to_json()} if callable(to_json) else {})


def _copied(tensors: Mapping[str, Tensor], copies: dict[object, Tensor]) -> dict[str, Tensor]:
    return {name: _copy(tensor, copies) for name, tensor in tensors.items()}


def _copy(tensor: Tensor, copies: dict[object, Tensor]) -> Tensor:
    place = tensor_place(tensor)
    if place not in copies:
        copies[place] = tensor.detach().to("cpu", copy=True).contiguous()
    return copies[place]
