"""From a registered version back to its class: imported, remembered, or handed over, and never another one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from registered_models import Pebble, register, value_of

import zoo


def test_a_class_of_a_script_is_loaded_there_and_elsewhere_only_by_handing_it_over(tmp_path: Path) -> None:
    source = Path(__file__).with_name("registered_models.py").read_text()
    script = f"{source}\nif __name__ == '__main__':\n"
    script += "    zoo.register_model(pebble(3.0), name='m', version='1.0.0')\n    zoo.create('local/m')\n"
    (tmp_path / "train.py").write_text(script)
    subprocess.run([sys.executable, str(tmp_path / "train.py")], check=True)
    registry = zoo.ModelRegistry()
    with pytest.raises(zoo.PluginError, match="__main__:Pebble") as caught:
        registry.load("m")
    assert "cls=Pebble" in str(caught.value)
    assert value_of(registry.load("m", cls=Pebble)) == 3.0
    assert value_of(Pebble.from_pretrained("local/m")) == 3.0
    with pytest.raises(zoo.PluginError):
        registry.load("m", cls=zoo.Backbone)


def test_a_script_never_gets_the_class_of_the_same_name_of_another_script(tmp_path: Path) -> None:
    source = Path(__file__).with_name("registered_models.py").read_text()
    one = f"{source}\nzoo.register_model(pebble(3.0), name='one', version='1.0.0')\n"
    other = source + (
        "\nzoo.register_model(pebble(4.0), name='other', version='1.0.0')\n"
        "zoo.create('local/other')\n"
        "try: zoo.create('local/one')\nexcept zoo.PluginError as error: print(error)\nelse: print('loaded')\n"
    )
    told = ""
    for name, text in (("one.py", one), ("other.py", other)):
        (tmp_path / name).write_text(text)
        done = subprocess.run([sys.executable, str(tmp_path / name)], capture_output=True, text=True, check=True)
        assert "Pebble cannot be imported from __main__" in done.stderr
        told = done.stdout
    assert "another program has registered it" in told
    assert 'registry.load("one", cls=Pebble)' in told


def test_a_class_in_a_module_that_is_gone_says_what_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).with_name("registered_models.py").read_text()
    (tmp_path / "quarry_models.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import quarry_models  # type: ignore[import-not-found]  # written above

    zoo.register_model(quarry_models.pebble(4.0), name="m", version="1.0.0")
    code = (
        "import zoo\ntry: zoo.create('local/m')\nexcept zoo.PluginError as error: print(error)\nelse: print('loaded')"
    )
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "put the module quarry_models on the import path" in gone.stdout
    here = {**os.environ, "PYTHONPATH": str(tmp_path)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=here)
    assert there.stdout == "loaded\n"


def test_a_class_inside_a_function_is_loaded_in_the_same_process(registry: zoo.ModelRegistry) -> None:
    class Inner(Pebble):
        """Nobody can import it."""

    with pytest.warns(UserWarning, match="cannot be imported"):
        registry.register(name="m", version="1.0.0", model=Inner)
    assert type(registry.load("m")) is Inner
    with pytest.raises(zoo.OptionError, match="not a Backbone"):
        registry.load("m", cls=zoo.Backbone)


@pytest.mark.parametrize("factory", ["os:system", "subprocess:Popen", "os", "zoo.errors:ZooError", "no_such:Thing"])
def test_a_row_that_names_something_else_than_a_model_is_refused(registry: zoo.ModelRegistry, factory: str) -> None:
    register(registry, "1.0.0")
    forge(registry, lambda saved: saved.update(factory=factory))
    with pytest.raises(zoo.PluginError, match=r"cannot be imported as a model|not a zoo\.Model"):
        registry.load("m")


def test_a_row_whose_config_would_fetch_is_refused(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    forge(registry, lambda saved: saved["config"].update(backbone={"name": "resnet18", "pretrained": True}))
    with pytest.raises(zoo.FormatError, match="pretrained"):
        registry.load("m")


def forge(registry: zoo.ModelRegistry, change: object) -> None:
    """Edit the one row behind the registry's back."""
    with sqlite3.connect(Path(registry.path, "registry.sqlite")) as connection:
        record = json.loads(connection.execute("SELECT record FROM versions").fetchone()[0])
        change(record["saved"])  # type: ignore[operator]  # a parameter
        connection.execute("DROP TRIGGER versions_UPDATE")
        connection.execute("UPDATE versions SET record = ?", [json.dumps(record)])
