"""From what was read back into live objects: everything is checked first, and one failure undoes all.

What a check can know is known before anything changes: names, shapes, kinds. Objects of the caller's may still refuse
their state; then whatever was restored before them gets back the state it had.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.checkpoints.training.capture import Stateful, Training, bare, parameter_names, parameter_rows, type_name
from zoo.checkpoints.training.randomness import check_generator, set_generator_state, set_random_state
from zoo.checkpoints.writing import is_sharded
from zoo.errors import LoadError, OptionError


class Saved(NamedTuple):
    """What a checkpoint holds, read back.

    model: its whole state. versions: of its modules. parts: by name, `type`, `state` and what else was noted. Of a part
    or a generator that nobody asks for there is the name, with None; random is None too, then.
    """

    where: str
    model: dict[str, Any]
    versions: dict[str, Any]
    parts: dict[str, dict[str, Any] | None]
    random: dict[str, Any] | None
    generators: dict[str, Any]
    extra: Any


class _Change(NamedTuple):
    what: str
    apply: Callable[[], object]
    undo: Callable[[], object]


def restore(saved: Saved, training: Training, *, strict: bool) -> None:
    """Put a checkpoint's state into live objects, in place: all of them or none.

    Args:
        training: those to restore; None is left out. strict: whether a model's names must match, and, with an
            optimizer, everything that was saved must be taken.

    Raises:
        LoadError: something saved does not fit what is there. OptionError: something that was saved is not asked for,
            or the other way round.
    """
    parts, generators = training.parts(), training.generators or {}
    _check_asked(saved, parts, generators, everything=strict and "optimizer" in {n.partition("[")[0] for n in parts})
    names = parameter_names(training.model)
    changes = [_part_change(name, part, saved.parts[name] or {}, names, strict) for name, part in parts.items()]
    if training.model is not None:
        model = bare(training.model)
        changes.append(_module_change("model", model, saved.model, saved.versions, strict))
    for name, generator in generators.items():
        check_generator(name, generator, saved.generators[name])
    _apply(changes, saved.where)
    for name, generator in generators.items():
        set_generator_state(generator, saved.generators[name])
    if saved.random is not None:
        set_random_state(saved.random)


def _check_asked(
    saved: Saved, parts: Mapping[str, Stateful], generators: Mapping[str, object], *, everything: bool
) -> None:
    there = {*saved.parts, *(f"generators[{name!r}]" for name in saved.generators)}
    asked = {*parts, *(f"generators[{name!r}]" for name in generators)}
    if asked - there:
        raise OptionError(
            f"{saved.where} was saved without {', '.join(sorted(asked - there))}",
            found=", ".join(sorted(there)) or "a model alone",
            fix="leave it out",
        )
    if everything and there - asked:
        raise OptionError(
            f"{saved.where} was saved with {', '.join(sorted(there - asked))}, which would be lost",
            fix=f"hand it over too ({min(there - asked).partition('[')[0]}=…), or strict=False to leave it",
        )


def _apply(changes: Sequence[_Change], where: str) -> None:
    done: list[_Change] = []
    try:
        for change in changes:
            done.append(change)
            change.apply()
    except BaseException as error:
        stuck = [change.what for change in reversed(done) if not _undone(change)]
        if not isinstance(error, Exception):
            raise
        left = f"the {', '.join(stuck)} did not take the state it had either" if stuck else "nothing was changed"
        raise LoadError(
            f"the {done[-1].what} does not take the state in {where}; {left}",
            found=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error


def _undone(change: _Change) -> bool:
    try:
        change.undo()
    except Exception:  # whatever an object of the caller's raises; the others are still undone
        return False
    return True


def _part_change(
    name: str, part: Stateful, entry: Mapping[str, Any], names: Mapping[int, str], strict: bool
) -> _Change:
    if isinstance(part, nn.Module):
        return _module_change(name, part, entry["state"], entry.get("versions") or {}, strict)
    mine, theirs = type_name(part), str(entry["type"])
    if mine.rpartition(".")[2] != theirs.rpartition(".")[2]:  # torch moves classes between modules
        raise LoadError(
            f"the {name} is of another class than the one saved; nothing was changed",
            asked=mine,
            found=theirs,
        )
    state = entry["state"]
    if isinstance(part, torch.optim.Optimizer):
        _check_optimizer(name, part, entry, names)
        return _Change(name, lambda: _load_optimizer(part, entry), _undo_optimizer(part))
    before = _own_copy(part.state_dict())
    if isinstance(before, Mapping) and isinstance(state, Mapping) and before.keys() != state.keys():
        differing = ", ".join(sorted(map(str, before.keys() ^ state.keys()))[:6])
        raise LoadError(f"the {name} does not fit the one saved; nothing was changed", found=f"differing: {differing}")
    return _Change(name, lambda: part.load_state_dict(state), lambda: part.load_state_dict(before))


def _check_optimizer(
    name: str, optimizer: torch.optim.Optimizer, entry: Mapping[str, Any], names: Mapping[int, str]
) -> None:
    mine, theirs = parameter_rows(optimizer, names), entry["parameters"]
    if len(mine) != len(theirs):
        raise LoadError(
            f"the {name} has other parameters than the one saved; nothing was changed",
            asked=f"{len(mine)} parameters",
            found=f"{len(theirs)} saved",
        )
    for number, (here, there) in enumerate(zip(mine, theirs, strict=True)):
        named = None in (here[1], there[1]) or here[1] == there[1]
        if not named or here[0] != there[0] or here[2] != there[2]:
            raise LoadError(
                f"parameter {number} of the {name} is not the one saved; nothing was changed",
                asked=_row_text(here),
                found=_row_text(there),
            )


def _row_text(row: Sequence[Any]) -> str:
    return f"{row[1] or 'unnamed'} {tuple(row[2])}, group {row[0]}"


def _load_optimizer(optimizer: torch.optim.Optimizer, entry: Mapping[str, Any]) -> None:
    """Load, every state in its exact dtype where the parameter has kept its own; torch alone casts to that."""
    optimizer.load_state_dict(entry["state"])
    if not {"state", "param_groups"} <= entry["state"].keys():
        return  # a class of the caller's keeps it in its own way, and casts as it likes
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in entry["state"]["param_groups"] for number in group["params"]]
    rows = entry["parameters"]
    for parameter, number, row in zip(parameters, numbers, rows, strict=True):
        state = entry["state"]["state"].get(number)
        if str(parameter.dtype) != f"torch.{row[3]}" or not isinstance(state, Mapping):
            continue
        loaded = optimizer.state[parameter]
        for key, value in state.items():
            if isinstance(value, Tensor) and isinstance(loaded.get(key), Tensor) and loaded[key].dtype != value.dtype:
                loaded[key] = value.to(loaded[key].device)


def _undo_optimizer(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Loading makes new groups and new state beside the old ones; undoing puts the very old ones back.

    What a class with a `load_state_dict` of its own holds beside those, only that method knows.
    """
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        before = {"state": _own_copy(optimizer.state_dict()), "parameters": parameter_rows(optimizer, {})}
        return lambda: _load_optimizer(optimizer, before)
    state, groups = optimizer.state, optimizer.param_groups
    kept = [dict(group) for group in groups]

    def undo() -> None:
        optimizer.state, optimizer.param_groups = state, groups
        for group, values in zip(groups, kept, strict=True):
            group.clear()
            group.update(values)

    return undo


def _module_change(
    name: str, module: nn.Module, state: Mapping[str, Any], versions: Mapping[str, Any], strict: bool
) -> _Change:
    mine = module.state_dict()
    _check_module(name, mine, state, strict)
    before = OrderedDict((key, _kept(value)) for key, value in mine.items())
    whole: OrderedDict[str, Any] = OrderedDict(state)
    whole._metadata = OrderedDict(versions)  # type: ignore[attr-defined]  # where torch itself keeps it
    return _Change(
        name,
        lambda: module.load_state_dict(whole, strict=strict),
        lambda: module.load_state_dict(before, strict=False),
    )


def _check_module(name: str, mine: Mapping[str, Any], state: Mapping[str, Any], strict: bool) -> None:
    missing, unexpected = mine.keys() - state.keys(), state.keys() - mine.keys()
    if strict and (missing or unexpected):
        raise LoadError(
            f"the {name} has other tensors than the one saved; nothing was changed",
            asked=_some(missing) and f"not saved: {_some(missing)}",
            found=_some(unexpected) and f"not in the {name}: {_some(unexpected)}",
            fix="the model as it was when it was saved, or strict=False to load what fits",
        )
    both = [key for key in sorted(mine.keys() & state.keys()) if not is_extra_state(key)]
    shapes = [key for key in both if _shape(mine[key]) != _shape(state[key])]
    if shapes:
        key = shapes[0]
        raise LoadError(
            f"{len(shapes)} tensors of the {name} have another shape than those saved; nothing was changed",
            asked=f"{key} {_shape(mine[key])}",
            found=f"{key} {_shape(state[key])}",
            fix="the model as it was when it was saved",
        )

    if any(isinstance(mine[key], Tensor) and mine[key].is_meta for key in both):
        raise LoadError(
            f"the {name} has no data to load into: it is on the meta device", fix=f"{name}.to_empty(device=…) first"
        )


def is_extra_state(name: str) -> bool:
    """Whether that is what a module's `get_extra_state` gave. It may have any shape: `set_extra_state` decides."""
    return name.rpartition(".")[2] == "_extra_state"


def _shape(value: Any) -> tuple[int, ...] | str:
    if nn.parameter.is_lazy(value):
        return "no shape yet: run one batch through the model first"
    return tuple(value.shape) if isinstance(value, Tensor) else "no tensor"


def _some(names: set[str]) -> str:
    shown = sorted(names)[:4]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _own_copy(state: Any) -> Any:
    """A deep copy. A tensor with a graph, which torch does not copy so, is copied without it."""
    return copy.deepcopy(state, {id(t): t.detach().clone() for t in _tensors_in(state) if not t.is_leaf})


def _tensors_in(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for item in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors_in(item)


def _kept(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return value.detach().clone() if is_sharded(value) else value.detach().to("cpu", copy=True)
