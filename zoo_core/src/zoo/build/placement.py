"""Where a model's parameters are made, and as what."""

from __future__ import annotations

from typing import NamedTuple

import torch

from zoo.errors import OptionError


class Placement(NamedTuple):
    """Where parameters and buffers are made, and as what; None leaves it to torch and to the model."""

    device: torch.device | None = None
    dtype: torch.dtype | None = None


ANYWHERE = Placement()


def as_placement(device: str | torch.device | None, dtype: torch.dtype | str | None) -> Placement:
    """Device and dtype as people write them. Raises `OptionError` for what torch does not know."""
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise OptionError(f"torch has no dtype {dtype!r}", asked=f"dtype={dtype!r}", fix='dtype="bfloat16"')
    if dtype is not None and not dtype.is_floating_point:
        raise OptionError("parameters are floating-point numbers", asked=f"dtype={dtype}", fix='dtype="bfloat16"')
    try:
        placement = Placement(None if device is None else torch.device(device), dtype)
        torch.empty(0, device=placement.device)  # a device that is known may still not be there
        return placement
    except (RuntimeError, AssertionError) as error:
        raise OptionError(str(error).splitlines()[0], asked=f"device={device!r}", fix='device="cpu"') from None


def check_holds_values(placement: Placement) -> None:
    """Refuse a device that has no memory for weights. Raises `OptionError`."""
    if placement.device is not None and placement.device.type == "meta":
        raise OptionError("tensors on the meta device have no values to load", fix='device="cpu", or no weights')
