"""Put a checkpoint's tensors into a model: every key on both sides accounted for, no copy, ties kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.build.fresh import Fresh
from zoo.checkpoints.files import meta_tensors
from zoo.checkpoints.headers import TensorInfo
from zoo.checkpoints.keymap import KeyMap, MappedState, StateMap
from zoo.errors import FormatError, LoadError, OptionError
from zoo.models.load_report import LoadReport
from zoo.models.model import Component

WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel and AveragedModel, torch.compile, and Lightning put before every name."""

MAX_WRAPPERS = 4


def key_map(model: Component, format: str) -> StateMap:
    """The model's map for a published format. Raises `OptionError` that lists the formats there are."""
    maps: dict[str, StateMap] = {"native": KeyMap(), **model.key_maps()}
    if format not in maps:
        raise OptionError(
            f"{type(model).__name__} does not know the checkpoint format {format!r}",
            asked=format,
            found=", ".join(sorted(maps)),
            fix=f'format="{min(maps)}"',
        )
    return maps[format]


def check_structure(
    model: Component, structure: Mapping[str, TensorInfo], format: str, source: str, fresh: Fresh | None = None
) -> None:
    """Hold a checkpoint's header against the model before a byte of its body is fetched. Raises `LoadError`."""
    matched(model, meta_tensors(structure), LoadReport(source=source, format=format), fresh)


def matched(
    model: Component, tensors: Mapping[str, Tensor], about: LoadReport, fresh: Fresh | None = None
) -> tuple[MappedState, LoadReport]:
    """The tensors in the model's names, and what becomes of each. Raises `LoadError` unless all of them fit.

    Where they do not, but would without a beginning that wrappers give to every name, that is left out.

    Args:
        about: the source and the format.
        fresh: see `compare`.
    """
    map = key_map(model, about.format)
    try:
        state = map.load(tensors)
        return state, compare(model, state, about, fresh)
    except (LoadError, FormatError) as error:
        fault: LoadError | FormatError = error
    for prefix, inner, counters in _unwrapped(tensors):
        try:
            state = map.load(inner)
            state = state._replace(skipped={prefix + name: why for name, why in state.skipped.items()} | counters)
            report = compare(model, state, replace(about, prefix=prefix), fresh)
        except LoadError as error:
            if error.report.loaded:  # type: ignore[attr-defined]  # a LoadReport
                fault = error  # it says more than that nothing fits
        except FormatError:
            continue
        else:
            if not report.unexpected:
                return state, report
    raise fault


def _unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor], dict[str, str]]]:
    """(beginning, the tensors by their names without it, why others are left out) while all names begin alike."""
    prefix = ""
    counters = {name: "a counter beside the model" for name, tensor in tensors.items() if _counts(tensor)}
    for _ in range(MAX_WRAPPERS):
        names = [name for name in tensors if name.startswith(prefix)]
        beginnings = {
            next((w for w in WRAPPERS if n.startswith(w, len(prefix))), n) for n in names if n not in counters
        }
        wrapper = beginnings.pop() if len(beginnings) == 1 else ""
        if wrapper not in WRAPPERS:
            return
        prefix += wrapper
        inner = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        yield prefix, inner, {name: why for name, why in counters.items() if not name.startswith(prefix)}


def _counts(tensor: Tensor) -> bool:
    return not tensor.dim() and not tensor.is_floating_point()


def compare(model: Component, state: MappedState, about: LoadReport, fresh: Fresh | None = None) -> LoadReport:
    """Match mapped tensors with the model's own. Raises `LoadError` unless all of them fit.

    Args:
        about: the source, the format, and what was taken out of the names.
        fresh: initial values, for what the file lacks and for a head of another shape; what the model does not know
            is then left out. None is strict.
    """
    own = model.state_dict(keep_vars=True)
    twins = {name: group for group in _tied(own) for name in group}
    absent = [name for name in own if not state.tensors.keys() & {name, *twins.get(name, ())}]
    # Counters and index tables are structure, computed when the model is built; older files lack some of them.
    kept = [name for name in absent if not own[name].is_floating_point() and not isinstance(own[name], nn.Parameter)]
    mismatched = {
        name: why for name, tensor in state.tensors.items() if name in own and (why := _misfit(tensor, own[name]))
    }
    missing = [name for name in absent if name not in kept]
    new: dict[str, str] = {}
    if fresh is not None and (missing or mismatched):
        shapes = {name: why for name, why in mismatched.items() if state.tensors[name].shape != own[name].shape}
        new = {name: why for name, why in shapes.items() if name in fresh.head}
        new |= dict.fromkeys(missing, "not in the file")
    report = replace(
        about,
        loaded=tuple(n for n in state.tensors if n in own and n not in state.adapted and n not in new),
        adapted={name: how for name, how in state.adapted.items() if name not in new},
        reinitialised=new,
        kept=tuple(kept),
        skipped=dict(state.skipped),
        unexpected=tuple(about.prefix + state.origins.get(name, name) for name in state.tensors if name not in own),
        missing=tuple(name for name in missing if name not in new),
        mismatched={name: why for name, why in mismatched.items() if name not in new},
    )
    if report.missing or report.mismatched or (report.unexpected and fresh is None):
        raise _load_error(model, report)
    if new and not (report.loaded or report.adapted):
        raise _load_error(model, report)
    return report


def _misfit(tensor: Tensor, own: Tensor) -> str:
    """Why a file's tensor is not the model's; empty where it may be. A cast of quantised or complex values is not."""
    if tensor.shape != own.shape:
        return f"file {tuple(tensor.shape)}, model {tuple(own.shape)}"
    if own.is_floating_point() and not tensor.is_floating_point():
        return f"file {_dtype(tensor)}, model {_dtype(own)}"
    return ""


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_weights(
    model: Component,
    tensors: Mapping[str, Tensor],
    *,
    format: str,
    source: str,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    strict: bool = True,
    fresh: Fresh | None = None,
    inside: str = "",
) -> LoadReport:
    """Assign a checkpoint's tensors to the model, in place of its parameters and buffers, without copying them.

    Args:
        model: its parameters may be uninitialised.
        tensors: by published name; memory-mapped tensors stay mapped.
        format: which of the model's key maps the names follow.
        device, dtype: where to put them; dtype (of floating-point tensors) defaults to the model's own.
        strict: every tensor on both sides must match. Otherwise what the file lacks, and a head of another shape, is
            freshly initialised, and what the model does not know is ignored; the report names all three.
        fresh: where initial values come from, if not strict; without it the model's own are taken to be such.
        inside: under which keys of the file the tensors lay, for the report.

    Raises:
        LoadError: the file does not fit; not strict, if a tensor beside the head has another shape, or nothing fits.
    """
    if strict:
        fresh = None
    elif fresh is None:
        fresh = Fresh(partial(deepcopy, model))
    state, report = matched(model, tensors, LoadReport(source=source, format=format, inside=inside), fresh)
    own = model.state_dict(keep_vars=True)
    placed: dict[str, Tensor] = {}
    for name in (*state.tensors, *report.reinitialised):
        if name not in own:
            continue
        target = own[name]
        wanted = (dtype or target.dtype) if target.is_floating_point() else target.dtype
        new = fresh is not None and name in report.reinitialised
        tensor = fresh.tensor(name) if fresh is not None and new else state.tensors[name]
        placed[name] = tensor.to(device=device, dtype=wanted)
    tied = _tied(own)
    for group in tied:
        here = [name for name in group if name in placed]
        if here:  # a shared table that files leave out has none
            placed |= dict.fromkeys(group, placed[here[0]])
    model.load_state_dict(placed, strict=False, assign=True)  # `compare` was stricter
    _tie_again(model, tied)
    return report


def _tied(own: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Names that share one tensor, group by group, in the model's order."""
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(id(tensor), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _tie_again(model: nn.Module, tied: Sequence[tuple[str, ...]]) -> None:
    """Assignment gives every name a parameter of its own; tied ones become one again."""
    for first, *others in tied:
        shared = _get(model, first)
        for other in others:
            owner, _, leaf = other.rpartition(".")
            setattr(model.get_submodule(owner), leaf, shared)


def _get(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(owner), leaf)
    return tensor


def _load_error(model: Component, report: LoadReport) -> LoadError:
    hint = "check `format=`, and that the file belongs to this model"
    if report.mismatched and not (report.missing or report.unexpected):
        hint = "the file has other shapes: pass the num_classes, in_chans or img_size it was saved with"
        if not any("(" in why for why in report.mismatched.values()):
            hint = "the file's values in floating point; it may be quantised, or not be weights"
    error = LoadError(
        f"the weights do not fit {type(model).__name__}: {len(report.missing)} missing, {len(report.unexpected)} "
        f"unexpected, {len(report.mismatched)} of another shape or kind\n{report}",
        asked=report.source,
        fix=hint,
    )
    error.report = report
    return error
