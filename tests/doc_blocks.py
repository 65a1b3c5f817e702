"""A page of documentation as a program: its fenced blocks, run in order, in a folder of their own.

```bash                      run by bash, stops at the first failing command
```python                    run in one namespace a page
```toml some/file.toml       any language with a path: the block is that file
```diff some/file.py         lines to add to a file, found by the lines around them
```                          shown only
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)(?: +(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)

READER = """
import json, sys, traceback
namespace = {"__name__": "__main__"}
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    block = json.loads(line)
    try:
        exec(compile(block["code"], block["place"], "exec"), namespace)
        error = None
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps(error), file=answers, flush=True)
"""


class Block(NamedTuple):
    """One fenced block: its language, the file it is (if it is one), its text, and where it stands."""

    language: str
    path: str
    text: str
    place: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m[1], m[2] or "", m[3], f"{page.name}:{text.count(chr(10), 0, m.start()) + 1}")
        for m in FENCE.finditer(text)
    ]


class Workshop:
    """A folder and an environment in which a page's blocks are run, one after the other."""

    def __init__(self, folder: Path, python: str, environment: dict[str, str]) -> None:
        self.folder, self.python, self.environment = folder, python, {**os.environ, **environment}
        self._reader: subprocess.Popen[str] | None = None
        self.log = (folder / "stderr.log").open("w+")

    def run(self, block: Block) -> None:
        """Run one block. Raises `AssertionError` with what it printed where it fails."""
        if block.language == "diff":
            self._change(block)
        elif block.path:
            file = self.folder / block.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            self._shell(block)
        elif block.language == "python":
            self._python(block)
        else:
            assert not block.language, f"{block.place}: nobody runs {block.language!r} blocks"

    def close(self) -> None:
        """End the page's Python."""
        if self._reader is not None:
            assert self._reader.stdin is not None
            self._reader.stdin.close()
            self._reader.wait(60)
        self.log.close()

    def _shell(self, block: Block) -> None:
        command = ["bash", "-euo", "pipefail", "-c", block.text]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{block.place}:\n{block.text}\n{done.stdout}\n{done.stderr}"

    def _python(self, block: Block) -> None:
        if self._reader is None:
            self._reader = subprocess.Popen(
                [self.python, "-c", READER],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.write(json.dumps({"code": block.text, "place": block.place}) + "\n")
        self._reader.stdin.flush()
        answer = self._reader.stdout.readline()
        assert answer, f"{block.place}: Python ended\n{Path(self.log.name).read_text()}"
        error = json.loads(answer)
        assert error is None, f"{block.place}:\n{error}"

    def _change(self, block: Block) -> None:
        lines = block.text.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        file = self.folder / block.path
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{block.place}: the lines around the change are not in {block.path}"
        file.write_text(text.replace(before, after), encoding="utf-8")


def environment_beside(folder: Path) -> str:
    """A fresh virtual environment that sees everything this one has, with pip; its `bin` folder.

    What a page installs goes there, and is gone with it.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    site = next(folder.glob("lib/python*/site-packages"))
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "outer.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name, call in {
        "zoo": "from zoo.cli import main; sys.exit(main())",
        "pytest": "import pytest; sys.exit(pytest.main())",
    }.items():
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nimport sys; {call}\n")
        script.chmod(0o755)
    return str(folder / "bin")
