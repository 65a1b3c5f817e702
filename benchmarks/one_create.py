"""One pretrained create in a process of its own: `python -m benchmarks.one_create '{"subject": …}'` prints JSON.

Before the clock starts the subject's libraries are imported and its smallest model is built and run, so that neither
imports nor first uses are counted. Then: seconds of the create, seconds of a first forward pass, and the highest
resident memory (mapped pages of the file included) above what it was before, after either.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


def _zoo(warm: str, ref: str, file: str) -> Callable[[bool], Any]:
    import zoo

    def make(small: bool) -> Any:
        if small:
            return zoo.create(warm).eval()
        return zoo.create(ref, pretrained=True)

    return make


def _timm(warm: str, ref: str, file: str) -> Callable[[bool], Any]:
    import timm

    def make(small: bool) -> Any:
        return timm.create_model(warm if small else ref, checkpoint_path="" if small else file).eval()

    return make


def _transformers(warm: str, ref: str, file: str) -> Callable[[bool], Any]:
    import transformers

    def make(small: bool) -> Any:
        if small:
            return transformers.AutoModelForImageClassification.from_pretrained(warm).eval()
        return transformers.AutoModelForImageClassification.from_pretrained(file).eval()

    return make


def _reading(warm: str, ref: str, file: str) -> Callable[[bool], Any]:
    def make(small: bool) -> Any:
        with open(__file__ if small else file, "rb") as opened:
            return opened.read()

    return make


SUBJECTS = {"zoo": _zoo, "timm": _timm, "transformers": _transformers, "reading": _reading}


def measure(subject: str, warm: str, ref: str, file: str, side: int) -> dict[str, float]:
    """Seconds and bytes of one create and one first forward pass."""
    make = SUBJECTS[subject](warm, ref, file)
    images = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        small = make(True)
        if isinstance(small, torch.nn.Module):
            small(torch.rand(1, 3, 224, 224))
        del small
        gc.collect()
        before = _reset_peak()
        start = time.perf_counter()
        model = make(False)
        created = time.perf_counter()
        peak_of_create = _memory("VmHWM") - before
        resumed = time.perf_counter()
        if isinstance(model, torch.nn.Module):
            model(images)
        done = time.perf_counter()
    return {
        "create": created - start,
        "create_and_forward": created - start + done - resumed,
        "peak": peak_of_create,
        "peak_with_forward": _memory("VmHWM") - before,
    }


def _reset_peak() -> int:
    """Start the kernel's high-water mark anew; return the resident memory now, in bytes."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return _memory("VmRSS")


def _memory(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
