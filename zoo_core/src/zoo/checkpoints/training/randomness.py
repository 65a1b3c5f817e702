"""The state of every source of random numbers that a training run draws from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from zoo.errors import LoadError, OptionError

Generator = torch.Generator | np.random.Generator | random.Random
"""Sources of the caller's own."""


def random_state() -> dict[str, Any]:
    """Python's `random`, NumPy's global generator, torch on the CPU and on accelerators in use. Draws nothing."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own gap
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Continue every source where `random_state` saw it; accelerators that are not here are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        for device, saved in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(saved, device)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def generator_state(name: str, generator: Generator) -> dict[str, Any]:
    """The state of a generator of the caller's own. Raises `OptionError` for anything else."""
    if isinstance(generator, torch.Generator):
        return {"torch": generator.get_state(), "device": str(generator.device)}
    if isinstance(generator, np.random.Generator):
        return {"numpy": generator.bit_generator.state}
    if isinstance(generator, random.Random):
        return {"python": generator.getstate()}
    raise OptionError(
        f"generators[{name!r}] is a {type(generator).__name__}",
        fix="a torch.Generator, numpy.random.Generator or random.Random",
    )


def check_generator(name: str, generator: Generator, state: Mapping[str, Any]) -> None:
    """Whether a generator takes that state. Raises `LoadError`."""
    mine = generator_state(name, generator)
    fits = mine.keys() == state.keys() and mine.get("device") == state.get("device")
    if fits and "numpy" in mine:
        fits = mine["numpy"]["bit_generator"] == state["numpy"]["bit_generator"]
    if fits and "torch" in mine:
        fits = mine["torch"].shape == state["torch"].shape
    if not fits:
        raise LoadError(
            f"generators[{name!r}] is of another kind than the one saved", found=f"{', '.join(sorted(state))} saved"
        )


def set_generator_state(generator: Generator, state: Mapping[str, Any]) -> None:
    """Continue a generator where `generator_state` saw it."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state["torch"])
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state["numpy"]
    else:
        generator.setstate(state["python"])
