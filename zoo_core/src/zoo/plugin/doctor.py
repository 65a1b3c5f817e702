"""The doctor: tries every plugin in a process of its own, where a crash, an exit or an endless loop harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any, NamedTuple

from zoo.plugin.rows import is_composed
from zoo.plugin.state import PluginRecord
from zoo.specs import ModelSpec, PluginSpec

SECONDS = 120.0
"""How long a plugin may take to import and to build one model of each of its classes."""


class Diagnosis(NamedTuple):
    """What the doctor found. record: with the state after the trial. tried: how many classes were built."""

    record: PluginRecord
    tried: int


def examine(record: PluginRecord, spec: PluginSpec | None, seconds: float = SECONDS) -> Diagnosis:
    """Try one plugin: import every factory and build its smallest model on the meta device.

    Args:
        record, spec: as `discover` gives them. A plugin that is already quarantined is not run.
        seconds: the longest it may take.
    """
    if record.state != "ok" or spec is None or not spec.models:
        return Diagnosis(record, 0)
    smallest: dict[str, ModelSpec] = {}
    for model in sorted(spec.models, key=lambda m: m.params if m.params is not None else sys.maxsize):
        if not is_composed(model):
            smallest.setdefault(model.factory, model)
    rows = [(m.name, m.factory, dict(m.config)) for m in smallest.values()]
    with tempfile.TemporaryDirectory(prefix="zoo-doctor-") as folder:
        lines, end = _run({"paths": sys.path, "record": list(record), "rows": rows}, folder, seconds)
    upgrade = f"pip install --upgrade {record.distribution}"
    failure = next((line for line in lines if "state" in line), None)
    if failure is not None:
        record = record.quarantined(failure["state"], failure["reason"], failure["fix"] or upgrade)
    elif not any("done" in line for line in lines):
        step = next((line["step"] for line in reversed(lines) if "step" in line), "starting")
        state = "contract-failed" if step.startswith("building") else "import-failed"
        record = record.quarantined(state, f"{step}: {end}", upgrade)
    return Diagnosis(record, sum("step" in line for line in lines) // 2)


def _run(job: dict[str, Any], folder: str, seconds: float) -> tuple[list[dict[str, str]], str]:
    """The lines the trial wrote, and how it ended."""
    job_path, result_path = os.path.join(folder, "job.json"), os.path.join(folder, "result.jsonl")
    with open(job_path, "w", encoding="utf-8") as stream:
        json.dump(job, stream)
    # Its output goes nowhere: a plugin may print without end. Its own session: so that its children end with it.
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo.plugin.trial", job_path, result_path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, sys.path)))},
        start_new_session=True,
    )
    try:
        status = process.wait(seconds)
        end = f"the process was killed by signal {-status}" if status < 0 else f"the process ended with status {status}"
    except subprocess.TimeoutExpired:
        end = f"it did not finish within {seconds:g} s"
    finally:
        _end(process)
    try:
        with open(result_path, encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")], end
    except (OSError, ValueError):
        return [], end


def _end(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        import signal

        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
