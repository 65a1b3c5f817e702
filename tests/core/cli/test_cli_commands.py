"""The `zoo` command from outside: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from platformdirs import user_cache_dir

from synthetic_plugins import Site, manifest_of
from zoo import create
from zoo.paths import home
from zoo_command import EXECUTABLE, Outcome, zoo, zoo_on_a_terminal

HEAVY = ("torch", "torchvision", "timm", "numpy", "pydantic", "pluggy", "huggingface_hub", "transformers")
"""What answers from data may not import."""
SLOW = (
    "argparse", "dataclasses", "difflib", "importlib.metadata", "inspect", "json", "pathlib", "platformdirs", "re",
    "typing",
)  # fmt: skip
"""What a warm listing has no time to import, beside that."""

RECORDER = """
    import atexit, os, sys

    def record():
        with open(os.environ["IMPORTED"], "w") as stream:
            stream.write("\\n".join(sys.modules))

    if "IMPORTED" in os.environ:
        atexit.register(record)
"""


@pytest.fixture
def acme(tmp_path: Path) -> Site:
    """A site folder with a third party's plugin."""
    site = Site(tmp_path / "site")
    site.plugin("acme")
    site.write({"sitecustomize.py": RECORDER})
    site.age()
    return site


def imported(site: Site, told: Path, *words: str, env: Mapping[str, str] = {}) -> tuple[Outcome, set[str]]:
    """The outcome of a command, and every module it had imported when it ended."""
    recording = {"IMPORTED": str(told), "PYTHONDONTWRITEBYTECODE": "1"}
    outcome = zoo(*words, site=site.folder, env={**recording, **env})
    return outcome, set(told.read_text().splitlines())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 0),
        ("--help", 0),
        ("predict --help", 0),
        ("--version", 0),
        ("list", 0),
        ("list *iny --json", 0),
        ("list --license permissive", 0),
        ("list nothing_of_that_name", 1),
        ("list --tasc classification", 2),
        ("info acme/tiny", 0),
        ("info acme/tiny --json", 0),
        ("info acme/tinny", 1),
        ("info acme/tiny.Nope", 1),
        ("plugins", 0),
        ("plugins --json", 0),
        ("alias set mine acme/tiny", 0),
        ("alias ls", 0),
        ("predict acme/tinny photo.jpg", 1),
        ("predict acme/tiny photo.jpg", 1),
        ("predict no/such/name photo.jpg", 1),
    ],
)
def test_nothing_heavy_is_imported_to_answer_from_data(acme: Site, tmp_path: Path, line: str, code: int) -> None:
    outcome, modules = imported(acme, tmp_path / "imported", *line.split())
    assert outcome.code == code, outcome
    assert "zoo.cli" in modules
    assert not modules & set(HEAVY)
    assert not any(name.startswith("zoo_acme") for name in modules)


def test_a_warm_listing_imports_nothing_slow_either(acme: Site, tmp_path: Path) -> None:
    for _ in range(10):  # something may have been installed a moment ago, and then no cache is trusted
        default = {"ZOO_HOME": "", "XDG_CACHE_HOME": str(tmp_path / "caches")}  # as on a user's machine
        outcome, modules = imported(acme, tmp_path / "imported", "list", env=default)
        if "zoo.catalog.rebuilding" not in modules:
            break
        time.sleep(1)
    assert "acme/tiny" in outcome.out
    assert not modules & {*HEAVY, *SLOW, "zoo.catalog.rebuilding"}
    assert [path.name for path in (tmp_path / "caches").iterdir()] == ["zoo"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs itself answers")
@pytest.mark.parametrize("value", [None, "", " ", "/var/tmp/caches", "/var/tmp/caches/"])
def test_the_zoos_home_is_where_platformdirs_puts_it(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert os.path.normpath(home()) == user_cache_dir("zoo", appauthor=False)


def test_plain_output_has_no_colours_and_does_not_depend_on_the_width(acme: Site) -> None:
    wide, narrow = (zoo("list", site=acme.folder, env={"COLUMNS": columns}) for columns in ("200", "30"))
    assert wide == narrow
    assert "\x1b" not in wide.out + zoo("info", "acme/tiny", site=acme.folder).out
    heading, *rows = wide.out.splitlines()
    assert heading.split() == ["MODEL", "TASK", "PARAMS", "LICENCE", "WEIGHTS", "STATUS"]
    assert any(row.split()[0] == "acme/tiny" and row.split()[-1] == "installed" for row in rows)


def test_on_a_terminal_the_listing_fits_and_no_color_is_respected() -> None:
    shown = zoo_on_a_terminal("list", columns=60)
    assert shown.code == 0
    assert "\x1b[1m" in shown.out
    plain = zoo_on_a_terminal("list", columns=60, env={"NO_COLOR": "1"})
    assert "\x1b" not in plain.out
    assert max(map(len, plain.out.splitlines())) <= 60


def test_lists_for_machines_are_json(acme: Site) -> None:
    (row,) = json.loads(zoo("list", "acme/*", "--json", site=acme.folder).out)
    assert (row["ref"], row["params"], row["status"]) == ("acme/tiny", _manifest()["models"][0]["params"], "installed")
    states = {
        plugin["namespace"]: plugin["state"] for plugin in json.loads(zoo("plugins", "--json", site=acme.folder).out)
    }
    assert states["acme"] == states["core"] == "ok"
    assert json.loads(zoo("info", "acme/tiny", "--json", site=acme.folder).out)["ref"] == "acme/tiny@1"


def test_options_filter_the_listing(acme: Site) -> None:
    def names(*words: str) -> list[str]:
        rows = json.loads(zoo("list", "--plugin", "acme", "--json", *words, site=acme.folder).out)
        return [row["name"] for row in rows]

    assert names() == names("--max-params", "1k") == names("--task", "classification", "--installed") == ["tiny"]
    assert names("--max-params", "100") == names("--tag", "mobile") == names("huge*") == []


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("lst", 2, "did you mean 'list'?"),
        ("--hepl", 2, "did you mean '--help'?"),
        ("help lst", 2, "did you mean 'list'?"),
        ("list --jsno", 2, "did you mean --json?"),
        ("list a b", 2, "'b'"),
        ("info", 2, "zoo info needs MODEL"),
        ("list --max-params lots", 2, "25M"),
        ("plugin compil", 2, "zoo plugin compile"),
        ("alias st x", 2, "zoo alias set NAME MODEL"),
        ("alias rm nobody", 1, "no alias 'nobody'"),
        ("info acme/tinny", 1, "acme/tiny"),
        ("info Bad", 1, "^"),
        ("doctor nobody", 1, "nobody"),
        ("predict acme/tiny photo.jpg --dtype float23", 2, "bfloat16"),
        ("predict acme/tiny photo.jpg --top 0", 2, "from 1"),
        ("predict acme/tiny photo.jpg", 1, "--checkpoint FILE"),
        ("predict classifier photo.jpg", 1, "zoo predict file://FOLDER"),
    ],
)
def test_a_mistake_is_answered_with_what_to_type_next(acme: Site, line: str, code: int, message: str) -> None:
    outcome = zoo(*line.split(), site=acme.folder)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_a_backbone_predicts_nothing(tmp_path: Path) -> None:
    manifest = manifest_of("acme")
    manifest["models"][0]["kind"] = "backbone"
    site = Site(tmp_path / "site")
    site.plugin("acme", manifest)
    outcome = zoo("predict", "acme/tiny", "photo.jpg", "--checkpoint", "w.pth", site=site.folder)
    assert outcome.code == 1
    assert "it is a backbone" in outcome.err
    assert "zoo list --task classification" in outcome.err


@pytest.mark.long
def test_a_folder_of_weights_is_predicted_with_by_its_bare_name(tmp_path: Path) -> None:
    create("mobilenetv2").save_pretrained(tmp_path / "mine", format="timm")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    words = ("predict", "mobilenetv2", "photo.png", "--format", "timm", "--json", "--checkpoint")
    answered = zoo(*words, "mine", cwd=tmp_path)
    assert answered.code == 0, answered.err
    assert len(json.loads(answered.out)) == 1
    refused = json.loads(zoo(*words, "empty", cwd=tmp_path).out)["error"]
    assert "empty is a folder" in refused["message"]


def test_a_chosen_checkpoint_is_told_with_its_own_facts(tmp_path: Path) -> None:
    manifest = manifest_of("acme")
    row = manifest["models"][0]
    schema = {"type": "object", "properties": {"num_classes": {"type": "integer", "default": 1000}}}
    manifest["schemas"] = {row["factory"]: schema}
    about = {"sources": ["hf://org/a/f"], "license": "MIT"}
    small = {"name": "small", "num_classes": 0, "input": {"size": [96, 96]}, "config": {}} | about
    row["checkpoints"] = [{"name": "first", "num_classes": 1000} | about, small]
    site = Site(tmp_path / "site")
    site.plugin("acme", manifest)
    told = zoo("info", "acme/tiny.small", site=site.folder).out
    assert "features; these weights have no classes" in told
    assert "with the 1000 classes of first" in told
    assert "96 x 96" in told
    assert re.search(r"num_classes +0\b", told)
    assert "zoo predict" not in told
    usual = zoo("info", "acme/tiny", site=site.folder).out
    assert re.search(r"num_classes +1000\b", usual)
    assert "zoo predict acme/tiny" in usual


def test_an_error_for_machines_is_json_on_standard_output(acme: Site) -> None:
    outcome = zoo("info", "acme/tinny", "--json", site=acme.folder)
    error = json.loads(outcome.out)["error"]
    assert (outcome.code, outcome.err, error["code"]) == (1, "", "not-found")
    assert zoo("list", "--json", "--nope").code == 2


def test_the_caret_stands_under_the_fault() -> None:
    lines = zoo("info", "cnn/Resnet").err.splitlines()
    assert lines[1].index("R") == lines[2].index("^")


def test_a_traceback_is_shown_only_on_request() -> None:
    assert "Traceback" in zoo("info", "no_such_model", env={"ZOO_DEBUG": "1"}).err
    assert "Traceback" not in zoo("info", "no_such_model", env={"ZOO_DEBUG": "0"}).err


def test_an_error_nobody_foresaw_is_one_line_and_says_how_to_see_more(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.write({"sqlite3/__init__.py": "raise RuntimeError('the disk\\nis on fire')"})
    outcome = zoo("list", site=site.folder)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "error: unexpected RuntimeError: the disk is on fire",
        "  try:   the same with ZOO_DEBUG=1 for the traceback",
    ]


def test_no_plugins_leaves_the_core_wherever_it_stands(acme: Site) -> None:
    for words in (("--no-plugins", "plugins", "--json"), ("plugins", "--json", "--no-plugins")):
        states = {record["namespace"]: record["state"] for record in json.loads(zoo(*words, site=acme.folder).out)}
        assert (states["core"], states["acme"]) == ("ok", "disabled")


def test_an_alias_is_set_used_and_forgotten(acme: Site) -> None:
    assert zoo("alias", "set", "mine", "acme/tiny", site=acme.folder).code == 0
    assert json.loads(zoo("alias", "ls", "--json", site=acme.folder).out) == {"mine": "acme/tiny"}
    assert zoo("info", "mine", site=acme.folder).out.startswith("acme/tiny@1\n")
    assert zoo("alias", "rm", "mine", site=acme.folder).code == 0
    assert zoo("info", "mine", site=acme.folder).code == 1


def test_a_reader_that_leaves_early_is_no_error(acme: Site) -> None:
    listing = subprocess.Popen([EXECUTABLE, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None
    listing.stdout.close()
    _, complaint = listing.communicate(timeout=60)
    assert (listing.returncode, complaint) == (141, b"")


def test_an_interrupted_command_ends_quietly(tmp_path: Path) -> None:
    fifo = tmp_path / "input"
    os.mkfifo(fifo)
    waiting = subprocess.Popen(
        [EXECUTABLE, "predict", "core/classifier", "-", "--checkpoint", "w.safetensors"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert waiting.stdin is not None
    _wait_until_idle(waiting)  # it reads its standard input by now
    waiting.send_signal(signal.SIGINT)
    _, complaint = waiting.communicate(timeout=60)
    assert (waiting.returncode, complaint) == (130, b"")


def _wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Until it has not computed for two seconds, however long it took to start on a busy machine."""
    computed, since = "", 0
    while since < 20:
        assert process.poll() is None
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        now = " ".join([fields[0], *fields[11:13]])  # its state, and its seconds of user and system time
        since = since + 1 if now == computed and fields[0] == "S" else 0
        computed = now
        time.sleep(0.1)


COMMANDS = """
    from zoo.plugin.hookspecs import CliCommand, hookimpl

    def greet(words):
        print("hello", *words)
        return 3

    @hookimpl
    def cli_commands(event):
        return [CliCommand("greet", "says hello", greet), CliCommand("list", "takes over", greet)]
"""


def test_a_plugins_command_is_found_when_typed_and_replaces_none_of_ours(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.plugin("acme", {**_manifest(), "hooks": ["cli_commands"]}, hooks=True, files={"hooks.py": COMMANDS})
    assert zoo("greet", "you", "--loud", site=site.folder) == Outcome(3, "hello you --loud\n", "")
    assert "acme/tiny" in zoo("list", site=site.folder).out
    assert "did you mean 'greet'?" in zoo("gret", site=site.folder).err
    assert "greet" not in zoo("--help", site=site.folder).out
    everything = zoo("help", "--all", site=site.folder).out
    assert "says hello" in everything
    assert "takes over" not in everything


SPECIFIED = """
    from zoo.cli.arguments import Command, Option
    from zoo.plugin.hookspecs import CliCommand, hookimpl

    COMMAND = Command("greet", operands=("NAME",), options=(Option("--loud", "louder"),))

    def greet(arguments):
        print("hello", arguments.operands[0], arguments.flag("loud"))
        return 0

    @hookimpl
    def cli_commands(event):
        return [CliCommand("greet", "says hello", greet, COMMAND)]
"""


def test_a_plugins_command_that_says_how_it_is_called_behaves_as_one_of_ours(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.plugin("acme", {**_manifest(), "hooks": ["cli_commands"]}, hooks=True, files={"hooks.py": SPECIFIED})
    assert zoo("greet", "you", "--loud", site=site.folder) == Outcome(0, "hello you True\n", "")
    assert zoo("greet", "--", "--help", site=site.folder) == Outcome(0, "hello --help False\n", "")
    page = zoo("greet", "--help", site=site.folder)
    assert page == zoo("help", "greet", site=site.folder)
    assert page.out.startswith("usage: zoo greet NAME [options]\n\nSays hello.\n")
    assert page.code == 0
    misspelt = zoo("greet", "you", "--lod", site=site.folder)
    assert misspelt.code == 2
    assert "did you mean --loud?" in misspelt.err
    assert zoo("greet", site=site.folder).code == 2
    assert "did you mean 'greet'?" in zoo("help", "gret", site=site.folder).err


def test_a_broken_command_of_a_plugin_is_blamed_on_it(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.plugin("acme", {**_manifest(), "hooks": ["cli_commands"]}, hooks=True, files={"hooks.py": "1 / 0"})
    outcome = zoo("greet", site=site.folder)
    assert outcome.code == 2
    assert outcome.err.startswith("warning: ")
    assert "zoo-acme" in outcome.err
    assert "Traceback" not in outcome.err


HINT = """
    from zoo.plugin.hookspecs import hookimpl

    @hookimpl
    def error_hint(event):
        return f"acme has seen {type(event.error).__name__} before"
"""


def test_a_plugin_may_add_a_hint_to_an_error_but_not_spoil_it(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.plugin("acme", {**_manifest(), "hooks": ["error_hint"]}, hooks=True, files={"hooks.py": HINT})
    assert zoo("info", "nobody", site=site.folder).err.endswith("\n  hint:  acme has seen NotFoundError before\n")
    site.write({"zoo_acme/hooks.py": HINT.replace("return", "1 / 0 #")})
    spoilt = zoo("info", "nobody", site=site.folder)
    assert spoilt.code == 1
    assert spoilt.err.startswith("error: there is no model 'nobody'")
    assert "warning: " in spoilt.err
    assert "zoo-acme" in spoilt.err
    assert "Traceback" not in spoilt.err


def test_a_plugins_words_cannot_touch_the_screen(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    manifest = _manifest()
    manifest["models"][0]["summary"] = "\x1b[2J\x1b]0;gotcha\x07 sound"
    manifest["models"][0]["license"] = "MIT\x1b[31m"
    site.plugin("acme", manifest)
    said = zoo("list", site=site.folder).out + zoo("info", "acme/tiny", site=site.folder).out
    said += zoo("plugins", site=site.folder).out
    assert "acme/tiny" in said or "acme" in said
    assert "\x1b" not in said


def _manifest() -> dict[str, Any]:
    return manifest_of("acme")
