"""The doctor finds out what no import guard can: exits, crashes and endless loops, each named with its plugin."""

from __future__ import annotations

import time

import pytest

from synthetic_plugins import MODEL, Site
from zoo.plugin.discovery import discover
from zoo.plugin.doctor import Diagnosis, examine


def diagnosis(namespace: str, seconds: float = 120) -> Diagnosis:
    [(record, spec)] = [(r, s) for r, s in discover().plugins if r.namespace == namespace]
    return examine(record, spec, seconds)


def test_a_sound_plugin_is_well(installed: Site) -> None:
    installed.plugin("fine", files={"__init__.py": "print('noise' * 100_000)"})
    record, tried = diagnosis("fine")
    assert (record.state, record.reason, record.fix, tried) == ("ok", "", "", 1)


FAULTS = {
    "raises": ("raise ValueError('boom')", "import-failed", "importing zoo_acme.tiny:Tiny raised ValueError: boom"),
    "exits": ("import sys; sys.exit(0)", "import-failed", "tried to end the process (exit status 0)"),
    "exits at once": ("import os; os._exit(0)", "import-failed", "the process ended with status 0"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "import-failed", "the process was killed by signal 11"),
    "wrong class": ("Tiny = dict", "contract-failed", "not a zoo.Model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_import_is_named(installed: Site, fault: str) -> None:
    code, state, reason = FAULTS[fault]
    installed.plugin("acme", files={"tiny.py": code})
    record, tried = diagnosis("acme")
    assert (record.namespace, record.state) == ("acme", state)
    assert reason in record.reason
    assert record.fix.startswith("pip install ")
    assert tried == 0


def test_an_endless_import_is_ended_with_its_children(installed: Site) -> None:
    child = "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    noted = installed.folder / "child"
    loop = f"{child}\nopen({str(noted)!r}, 'w').write(str(c.pid))\nwhile True: print('x' * 9999)"
    installed.plugin("acme", files={"tiny.py": loop})
    record, _ = diagnosis("acme", seconds=4)
    assert record.state == "import-failed"
    assert record.reason == "importing zoo_acme.tiny:Tiny: it did not finish within 4 s"
    assert _ends(int(noted.read_text()))


def test_a_model_that_does_not_build_is_named(installed: Site) -> None:
    installed.plugin("acme", files={"tiny.py": MODEL.replace("self.head =", "self.head = 1 /")})
    record, _ = diagnosis("acme")
    assert record.state == "contract-failed"
    assert record.reason.startswith("building tiny raised TypeError")


def test_a_plugin_in_quarantine_is_explained_and_not_run(installed: Site) -> None:
    crash = {"tiny.py": "import os; os._exit(1)"}
    installed.plugin("acme", api=[9, 9], files=crash)
    installed.plugin("needy", requires=["zoo_no_such_package"], files=crash)
    record, tried = diagnosis("acme")
    assert (record.state, record.fix, tried) == ("incompatible", "pip install --upgrade zoo-core", 0)
    assert diagnosis("needy").record.state == "missing-deps"


def _ends(pid: int) -> bool:
    """Whether a process is gone within a while; a killed one takes its time on a busy machine."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
