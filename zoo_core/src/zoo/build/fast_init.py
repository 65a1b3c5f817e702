"""Build a module without paying for random weights that are about to be replaced.

In-place writes to an `nn.Parameter` (`normal_`, `fill_`, `copy_` …) are dropped while the module is built: memory is
reserved, but no page of it is touched. Buffers are ordinary tensors and are computed as always, which is why this
serves where the meta device does not: position tables, index tables and masks come out right.

A module built so holds garbage in its parameters. Only `zoo.build.weights` may receive it, to assign every one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

# What initialisers call. A write that is not listed merely happens, at its cost: the list can be short of one
# without anything going wrong.
_INITIALISERS = (
    ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_"),
    ("xavier_uniform_", "orthogonal_", "constant_", "ones_", "zeros_", "eye_", "dirac_"),
    ("fill_", "zero_", "copy_", "add_", "sub_", "mul_", "div_", "clamp_", "erfinv_", "random_", "__setitem__"),
)
_WRITES = frozenset(name for names in _INITIALISERS for name in names)


class _DropParameterWrites(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _WRITES:
            # torch.nn.init hands the tensor over by keyword when it dispatches to a mode.
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Modules built inside have parameters of the right shape, dtype and device, and unspecified values."""
    with _DropParameterWrites():
        yield
