"""The rules about code are tests. Each is also held against code that breaks it: a rule that cannot fail is no rule."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import source_rules as rules
import zoo
from source_rules import ROOT, Source, all_sources, core_sources, plugin_sources

FLOOR = {"errors", "paths", "refs", "specs"}
MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "refs": {"errors"},
    "specs": {"errors"},
    "builtin": {"specs"},
    "models": FLOOR,
    "checkpoints": FLOOR,
    "plugin": FLOOR,
    "index": FLOOR | {"plugin"},
    "catalog": FLOOR | {"plugin", "index"},
    "build": FLOOR | {"catalog", "plugin", "models", "checkpoints"},
    "versions": FLOOR | {"models", "checkpoints", "build"},
    "testing": FLOOR | {"face", "catalog", "plugin", "models", "checkpoints", "build", "versions"},
    "cli": FLOOR | {"face", "catalog", "plugin", "models", "checkpoints", "build", "versions", "index"},
    "face": {"errors"},
}
"""`refs, specs <- plugin <- catalog <- build -> models, checkpoints`, versions <- cli, testing."""

AGAINST_THE_DIRECTION = {
    ("zoo.build.licensing", "versions"): "tells the licences of what the user has registered, if that is asked for",
    ("zoo.build.locking", "versions"): "locks what the user has registered; asked for by `local/` only",
    ("zoo.build.pretrained", "versions"): "zoo.create opens what the user has registered; asked for by `local/` only",
    ("zoo.models.model", "build"): "a component describes itself, so that what saves it need not know its builder",
    ("zoo.models.parts", "build"): "a part by its name is created; plugins compose models of parts they do not import",
    ("zoo.plugin.compile", "models"): "measures the author's models; nobody compiles on the way to a listing",
    ("zoo.plugin.loading", "models"): "holds a class against the interface once its code, and so torch, is imported",
}
"""(module, room) that may be imported inside functions all the same, and why."""

PLUGINS_SPEAK = {"face", "errors", "refs", "specs", "models", "checkpoints", "testing", "cli", "paths"}
"""`cli` for the commands that plugins add: they read their line, show progress and print as the core's own. `paths` for
what they keep beside the zoo's own files."""

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

DOORS = {
    "zoo.build.create.create": "the door: checked against the model's own schema before anything is imported",
    "zoo.build.create.create_backbone": "hands everything to create()",
    "zoo.build.create.create_model": "hands everything to create()",
    "zoo.build.pretrained.load_pretrained": "hands everything to create()",
    "zoo.models.config.ModelConfig.replace": "the same door, for some of the fields",
    "zoo.models.model.Component.from_pretrained": "hands everything to create()",
    "zoo.models.model.ConfigDoor.__call__": "the config's door: an unknown field is refused with a suggestion",
    "zoo.models.parts.build_backbone": "hands everything to create_backbone()",
    "zoo.models.parts.build_head": "options of a part by name, checked against its schema",
    "zoo.models.parts.build_neck": "options of a part by name, checked against its schema",
    "zoo.models.model.Model.predict": "thresholds, checked against the task's own postprocess()",
    "zoo.plugin.trial.main.say": "writes the values it is given as one line of JSON",
}
"""Every `**` parameter there is, and why it is no tunnel."""

BLOCKED = ("torch", "torchvision", "timm", "numpy", "pydantic", "pluggy", "huggingface_hub")


ASKS_WHAT_IT_IS = {"zoo_timm.encoders": "what it asks is timm's, whose classes have no common interface"}


def faults(rule: Callable[..., list[str]], sources: list[Source], *arguments: object) -> list[str]:
    return [fault for source in sources for fault in rule(source, *arguments)]


def hold(rule: Callable[..., list[str]], sources: list[Source], *arguments: object) -> None:
    """Fail with every fault there is, one a line."""
    found = faults(rule, sources, *arguments)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def broken(text: str, module: str = "zoo.models.sample") -> Source:
    return Source("sample.py", module, text)


# Who imports whom


def test_inside_zoo_imports_keep_to_the_directions_of_the_design() -> None:
    hold(rules.direction_faults, core_sources(), MAY_IMPORT, AGAINST_THE_DIRECTION)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("zoo.models.a", "from zoo.checkpoints.store import Store"),
        ("zoo.models.a", "def f():\n    from zoo.checkpoints.store import Store"),
        ("zoo.models.a", "import zoo.build.create"),
        ("zoo.models.a", "import zoo"),
        ("zoo.models.a", "from zoo import catalog"),
        ("zoo.models.a", "from ..catalog import open_catalog"),
        ("zoo.checkpoints.a", "from importlib import import_module\nimport_module('zoo.models.model')"),
        ("zoo.catalog.a", "try:\n    from zoo.cli import main\nexcept ImportError: pass"),
        ("zoo.plugin.a", "class C:\n    def f(self):\n        import zoo.catalog"),
        ("zoo.cellar.a", ""),
    ],
)
def test_an_import_against_the_direction_is_caught(module: str, text: str) -> None:
    assert rules.direction_faults(broken(text, module), MAY_IMPORT, {})


def test_typing_and_the_face_inside_a_function_are_no_imports_against_the_direction() -> None:
    text = "if TYPE_CHECKING:\n    from zoo.checkpoints.keymap import KeyMap\ndef f():\n    import zoo\n"
    assert not rules.direction_faults(broken(text), MAY_IMPORT, {})


def test_zoo_imports_no_plugin_nor_their_libraries() -> None:
    forbidden = {"timm", "torchvision", "transformers", *plugin_sources()}
    hold(rules.forbidden_import_faults, core_sources(), forbidden)
    assert rules.forbidden_import_faults(broken("def f():\n    import timm.models"), forbidden)
    assert rules.forbidden_import_faults(broken("from zoo_cnn.resnet import ResNet"), forbidden)


def declared_dependencies(folder: Path) -> set[str]:
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [r for group in project.get("optional-dependencies", {}).values() for r in group]
    return {rules.distribution(requirement) for requirement in [*project["dependencies"], *optional]}


def test_a_plugin_imports_what_it_declares_and_no_more() -> None:
    for name, sources in plugin_sources().items():
        # pydantic is part of the core's contract: configs are its models.
        declared = declared_dependencies(ROOT / "plugins" / name) | {"pydantic"}
        hold(rules.undeclared_import_faults, sources, declared)
    assert rules.undeclared_import_faults(broken("import zoo_vit.vit", "zoo_cnn.a"), {"zoo-core", "zoo-timm"})
    assert rules.undeclared_import_faults(broken("import scipy", "zoo_cnn.a"), {"zoo-core"})
    assert not rules.undeclared_import_faults(broken("import zoo_timm, zoo, os", "zoo_cnn.a"), {"zoo-core", "zoo-timm"})


def test_the_core_imports_what_it_declares_beside_torch() -> None:
    # torch comes with the first model plugin; the core says so where it is missing.
    hold(rules.undeclared_import_faults, core_sources(), declared_dependencies(ROOT / "zoo_core") | {"torch"})


def test_plugins_speak_only_the_contracts() -> None:
    may = {"plugin": PLUGINS_SPEAK} | {room: set() for room in MAY_IMPORT if room != "plugin"}

    def rule(source: Source) -> list[str]:
        return rules.direction_faults(source._replace(module="zoo.plugin"), may, {})

    sources = [source for found in plugin_sources().values() for source in found]
    hold(rule, sources)
    assert rule(broken("from zoo.catalog import open_catalog", "zoo_cnn.a"))


def test_nobody_takes_another_modules_private_names() -> None:
    hold(rules.private_import_faults, all_sources())
    assert rules.private_import_faults(broken("from zoo.specs import _typed"))


# What runs on the way to a listing


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


BLOCKER = f"""
import sys
from importlib.machinery import PathFinder
BLOCKED = {(*BLOCKED, "zoo_timm", "zoo_cnn")!r}
class Refusing:
    @staticmethod
    def create_module(spec):
        raise RuntimeError("IMPORTED " + spec.name)
    exec_module = create_module
class Blocker:  # whether a package is there may be asked; it may not be run
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name.partition(".")[0] in BLOCKED else None
        if spec is not None:
            spec.loader = Refusing
        return spec
sys.meta_path.insert(0, Blocker)
"""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list", 0),
        ("list *resnet* --json", 0),
        ("list --license permissive --max-params 30M", 0),
        ("recommend --data 500 --license permissive", 0),
        ("recommend --max-params 1k", 1),
        ("info resnet50", 0),
        ("info timm/resnet50.a1_in1k --json", 0),
        ("plugins", 0),
        ("help", 0),
        ("info resnet5o", 1),
        ("info resnet50.no_such_tag", 1),
        ("info no/such", 1),
        ("info RESNET", 1),
    ],
)
def test_listing_and_a_miss_import_nothing_heavy_and_no_plugin(line: str, code: int) -> None:
    run = f"{BLOCKER}\nfrom zoo.cli import main\nsys.exit(main({line.split()!r}))"
    cold = python(run)
    warm = python(run)
    for done in (cold, warm):
        assert "IMPORTED" not in done.stdout + done.stderr, done.stderr
        assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import zoo; dir(zoo); zoo.ZooError, zoo.ModelSpec",
        "import zoo; assert zoo.list_models('*resnet*')",
        "import zoo; zoo.info('resnet50'); zoo.plugins()",
        "import zoo; assert zoo.recommend(constraint='speed')",
        "import zoo\ntry: zoo.info('resnet5o')\nexcept zoo.NotFoundError as e: assert 'resnet50' in str(e)",
    ],
)
def test_the_same_holds_in_python(code: str) -> None:
    done = python(f"{BLOCKER}\n{code}")
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    assert "IMPORTED torch" in python(f"{BLOCKER}\nimport zoo; zoo.Model").stderr
    assert "IMPORTED zoo_cnn" in python(f"{BLOCKER}\nimport zoo_cnn").stderr


# Size and names


def test_files_and_functions_are_short() -> None:
    hold(rules.file_size_faults, all_sources(), LONG_FILES)
    hold(rules.function_size_faults, all_sources(), LONG_FUNCTIONS)


def test_a_long_file_and_a_long_function_are_caught_and_a_docstring_is_free() -> None:
    assert rules.file_size_faults(broken("a = 1\n" * 401), {})
    assert not rules.file_size_faults(broken("a = 1\n" * 400), {})
    body = "class C:\n    def f(self):\n        '''One.\n" + "\n" * 60 + "        '''\n"
    assert rules.function_size_faults(broken(body + "        a = 1\n" * 50), {})
    assert not rules.function_size_faults(broken(body + "        a = 1\n" * 49), {})


def test_no_module_has_a_vague_name() -> None:
    hold(rules.vague_name_faults, all_sources())
    assert rules.vague_name_faults(broken("", "zoo.models.utils"))


def test_options_travel_through_named_doors_only() -> None:
    hold(rules.tunnel_faults, all_sources(), DOORS)
    assert rules.tunnel_faults(broken("class C:\n    def f(self, **kwargs): ..."), DOORS)


def test_every_exception_is_still_needed() -> None:
    unused = {name for name in DOORS if not any(name in fault for fault in _all(rules.tunnel_faults, {}))}
    unused |= {n for n in LONG_FUNCTIONS if not any(n in fault for fault in _all(rules.function_size_faults, {}))}
    long_modules = {source.module for source in all_sources() if rules.file_size_faults(source, {})}
    unused |= LONG_FILES.keys() - long_modules
    against = {
        (source.module, room)
        for source in core_sources()
        for room in MAY_IMPORT
        if any(f"must not import {room} " in f for f in rules.direction_faults(source, MAY_IMPORT, {}))
    }
    unused |= {f"{module} -> {room}" for module, room in AGAINST_THE_DIRECTION.keys() - against}
    assert not unused


def _all(rule: Callable[..., list[str]], *arguments: object) -> list[str]:
    return faults(rule, all_sources(), *arguments)


def test_modules_and_public_names_say_what_they_are() -> None:
    hold(rules.missing_docstring_faults, all_sources())
    assert len(rules.missing_docstring_faults(broken("def f(): ...\nclass C: ...\ndef _g(): ..."))) == 3


# What must not be called


def test_nothing_can_run_code_out_of_a_weights_file() -> None:
    hold(rules.unsafe_load_faults, all_sources())
    assert rules.unsafe_load_faults(broken("import torch\ntorch.load(path)"))
    assert rules.unsafe_load_faults(broken("import torch\ntorch.load(path, weights_only=False)"))
    assert rules.unsafe_load_faults(broken("def f():\n    from pickle import load"))


def test_models_do_not_ask_parts_what_they_are() -> None:
    models = [
        source
        for source in all_sources()
        if source.module.split(".")[0] != "zoo" or source.module.startswith("zoo.models.")
        if source.module not in ASKS_WHAT_IT_IS
    ]
    hold(rules.duck_typing_faults, models)
    assert rules.duck_typing_faults(broken("def forward(self, x):\n    return x if hasattr(self, 'head') else 0"))


# The public face


def face() -> ast.Module:
    return ast.parse((ROOT / "zoo_core" / "src" / "zoo" / "__init__.py").read_text(encoding="utf-8"))


def test_the_public_face_is_sorted_and_every_name_can_be_had_and_says_what_it_is() -> None:
    assert zoo.__all__ == sorted(set(zoo.__all__))
    for name in zoo.__all__:
        assert (getattr(zoo, name).__doc__ or "").strip(), f"zoo.{name} has no docstring"
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no_such"):
        _ = zoo.no_such


def test_a_type_checker_sees_the_face_that_runs() -> None:
    seen = {
        (alias.asname, node.module)
        for block in face().body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    table = next(n.value for n in face().body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "_HOMES")
    homes = ast.literal_eval(table)
    assert seen == set(homes.items())
    assert list(homes) == sorted(homes)


# The tree as a whole


def test_ruff_is_content() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_strict_type_checker_is_content() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True


def test_ci_runs_the_command_of_the_readme() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    tests = next(block.strip() for block in blocks if "pytest" in block)
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert tests in lines
    assert blocks.index(tests + "\n") == 1, "the tests are README's second command"


def tree_files() -> list[Path]:
    tops = ["zoo_core", "plugins", "tests", "docs", "benchmarks", "examples", ".ci", "README.md", "pyproject.toml"]
    files = [path for top in tops for path in [ROOT / top, *(ROOT / top).rglob("*")] if path.is_file()]
    written = {".py", ".md", ".toml", ".json", ".txt", ".cfg", ".yml", ".yaml", ".sh", ""}
    return [path for path in files if path.suffix in written and not {"dist", "__pycache__"} & set(path.parts)]


HOMES = r"(?<![\w.])/(?:home|Users|root|work)"
MACHINE = re.compile("|".join(["index" + "-url", "extra" + "-index", HOMES + r"/\w", r"files\.python" + "hosted"]))


def test_no_path_of_a_machine_and_no_package_index_is_written_down() -> None:
    files = tree_files()
    assert len(files) > 50
    found = [str(p.relative_to(ROOT)) for p in files if MACHINE.search(p.read_text(encoding="utf-8", errors="replace"))]
    assert not found
    assert MACHINE.search("--index" + "-url=x")
    assert MACHINE.search('"/home' + '/someone"')


def test_manifests_are_canonical_json() -> None:
    manifests = [ROOT / "zoo_core/src/zoo/zoo.json", *(ROOT / "plugins").glob("*/src/*/zoo.json")]
    assert len(manifests) >= 3
    for path in manifests:
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n", path
