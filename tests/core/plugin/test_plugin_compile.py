"""Compiling checks an author's rows against the code they name and measures what only the code knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from synthetic_plugins import MODEL, Site
from zoo.errors import ManifestError, NotFoundError, PluginError
from zoo.plugin import manifest
from zoo.plugin.check import check
from zoo.plugin.compile import compile_catalog, compile_plugin, write_compiled, write_manifest
from zoo.plugin.project import find_project

CATALOG = """
    from zoo.specs import CheckpointSpec, ModelSpec, PluginSpec

    PLUGIN = PluginSpec(
        namespace="acme",
        distribution="zoo-acme",
        summary="Tiny models",
        models=(
            ModelSpec(name="tiny", factory="zoo_acme.tiny:Tiny"),
            ModelSpec(
                name="wide",
                factory="zoo_acme.tiny:Tiny",
                config={"width": 8},
                checkpoints=(CheckpointSpec(name="ten", sources=("hf://acme/wide",), num_classes=10),),
            ),
        ),
    )
"""
PYPROJECT = """
    [project]
    name = "zoo-acme"
    version = "1.0"
    readme = "README.md"
    license = "Apache-2.0"

    [project.entry-points."zoo.plugins"]
    acme = "zoo_acme:zoo.json"
"""


@pytest.fixture
def project(tmp_path: Path) -> Site:
    """An author's project folder with a sound plugin."""
    site = Site(tmp_path / "zoo-acme")
    site.write({"pyproject.toml": PYPROJECT, "README.md": "# Acme", "src/zoo_acme/__init__.py": ""})
    site.write({"src/zoo_acme/catalog.py": CATALOG, "src/zoo_acme/tiny.py": MODEL})
    return site


def where(project: Site) -> str:
    return str(project.folder)


def test_what_only_the_code_knows_is_measured(project: Site) -> None:
    spec = compile_catalog(where(project))
    tiny, wide = spec.models
    assert (tiny.params, tiny.channels, tiny.strides) == (211, (4,), (4,))
    assert (wide.params, wide.channels, wide.strides) == (419, (8,), (4,))
    lines = ["head.bias 3", "head.weight 3,4", "stem.bias 4", "stem.weight 4,3,4,4"]
    text = "".join("{}\tfloat32\t{}\n".format(*line.split()) for line in lines)
    assert tiny.structure_sha256 == sha256(text.encode()).hexdigest()
    assert wide.structure_sha256 != tiny.structure_sha256
    schema = spec.schemas["zoo_acme.tiny:Tiny"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["width"]["default"] == 4
    assert manifest.parse(manifest.write(spec).encode()) == spec


def test_compiling_leaves_the_import_path_as_it_was(project: Site) -> None:
    before = sys.path[:]
    compile_catalog(where(project))
    assert sys.path == before


def test_a_manifest_is_written_once_and_then_unchanged(project: Site) -> None:
    compiled = compile_plugin(where(project))
    assert compiled.changed
    assert not Path(compiled.path).exists()
    write_manifest(compiled)
    assert compiled.path == str(project.folder / "src" / "zoo_acme" / "zoo.json")
    assert manifest.read(compiled.path) == compiled.spec
    assert not compile_plugin(where(project)).changed
    assert not compile_plugin(where(project), full=True).changed
    names = {path.name for path in Path(compiled.path).parent.iterdir()} - {"__pycache__"}
    assert names == {"__init__.py", "catalog.py", "tiny.py", "zoo.json"}


def test_a_manifest_that_cannot_be_written_leaves_nothing_behind(project: Site) -> None:
    compiled = compile_plugin(where(project))
    Path(compiled.path).mkdir()
    (Path(compiled.path) / "in the way").touch()
    with pytest.raises(OSError):  # noqa: PT011  # its kind differs between systems
        write_manifest(compiled)
    assert not [path for path in Path(compiled.path).parent.iterdir() if path.suffix == ".tmp"]


def test_a_new_row_needs_no_new_process(project: Site) -> None:
    assert len(compile_catalog(where(project)).models) == 2
    row = '            ModelSpec(name="huge", factory="zoo_acme.tiny:Tiny", config={"width": 512}),\n        ),\n    )'
    project.write({"src/zoo_acme/catalog.py": row.join(CATALOG.rsplit("        ),\n    )", 1))})
    assert [m.name for m in compile_catalog(where(project)).models] == ["tiny", "wide", "huge"]


def test_another_project_with_the_same_package_is_not_mixed_up(project: Site, tmp_path: Path) -> None:
    compile_catalog(where(project))
    other = Site(tmp_path / "other")
    other.write({"src/zoo_acme/__init__.py": "", "src/zoo_acme/catalog.py": CATALOG})
    other.write({"src/zoo_acme/tiny.py": MODEL.replace("width: int = 4", "width: int = 2")})
    assert compile_catalog(where(other)).models[0].params == 107
    assert compile_catalog(where(project)).models[0].params == 211


def test_an_installed_catalogue_is_read_afresh(installed: Site) -> None:
    installed.write({"zoo_acme/__init__.py": "", "zoo_acme/catalog.py": CATALOG, "zoo_acme/tiny.py": MODEL})
    assert compile_catalog("acme").summary == "Tiny models"
    installed.write({"zoo_acme/catalog.py": CATALOG.replace("Tiny models", "Small models")})
    assert compile_catalog("acme").summary == "Small models"


def test_an_installed_package_is_hidden_only_for_a_while(project: Site, installed: Site) -> None:
    installed.write({"zoo_acme/__init__.py": "", "zoo_acme/tiny.py": "Tiny = 'the installed one'"})
    import zoo_acme.tiny as before  # type: ignore[import-not-found]  # made by this test

    assert compile_catalog(where(project)).models[0].params == 211
    import zoo_acme.tiny as after  # type: ignore[import-not-found]  # made by this test

    assert after is before
    assert after.Tiny == "the installed one"


def test_unchanged_rows_keep_what_was_measured_and_changed_ones_do_not(project: Site) -> None:
    first = compile_catalog(where(project))
    shifted = first.to_dict()
    for model in shifted["models"]:
        model["params"] += 1_000_000
    previous = type(first).from_dict(shifted)
    assert [m.params for m in compile_catalog(where(project), previous).models] == [1_000_211, 1_000_419]
    project.write({"src/zoo_acme/catalog.py": CATALOG.replace('{"width": 8}', '{"width": 16}')})
    assert [m.params for m in compile_catalog(where(project), previous).models] == [1_000_211, 835]


def test_a_full_measure_believes_nothing(project: Site) -> None:
    compiled = compile_plugin(where(project))
    value = json.loads(compiled.text)
    value["models"][0]["params"] = 7
    stale = compiled._replace(text=json.dumps(value, sort_keys=True, indent=1) + "\n")
    write_manifest(stale)
    assert compile_plugin(where(project)).spec.models[0].params == 7
    full = compile_plugin(where(project), full=True)
    assert (full.changed, full.spec.models[0].params) == (True, 211)


@pytest.mark.parametrize("text", ["{", "", '{"schema": 9}', "\xff"])
def test_a_damaged_manifest_is_measured_anew(project: Site, text: str) -> None:
    project.write({"src/zoo_acme/zoo.json": text.encode("latin-1")})
    compiled = compile_plugin(where(project))
    assert (compiled.changed, compiled.spec.models[0].params) == (True, 211)


def test_a_catalogue_may_declare_what_it_knows_and_then_nothing_is_built(project: Site) -> None:
    project.write({"src/zoo_acme/tiny.py": MODEL.replace("self.head =", "self.head = 1 /")})
    with pytest.raises(ManifestError, match="building it on the meta device raised TypeError"):
        compile_catalog(where(project))
    declared = CATALOG.replace('"zoo_acme.tiny:Tiny")', '"zoo_acme.tiny:Tiny", params=5)')
    project.write({"src/zoo_acme/catalog.py": declared + "\n    STRUCTURE = False\n"})
    tiny, wide = compile_catalog(where(project)).models
    assert (tiny.params, tiny.structure_sha256, wide.params) == (5, None, None)


BAD_ROWS = {
    'namespace="acme"|namespace="cnn"': "belongs to the distribution zoo-cnn",
    'name="wide"|name="tiny"': "stands twice",
    'name="wide"|name="Wide"': "not a name",
    '{"width": 8}|{"widht": 8}': "did you mean `width`",
    '{"width": 8}|{"width": "x"}': "width",
    '{"width": 8}|{"classes": 8}': "the zoo's word is `num_classes`",
    '{"width": 8}|{"width": {8}}': "width",
    'num_classes=10|num_classes=10, config={"widht": 1}': "checkpoint 'ten': config",
    'num_classes=10|num_classes=10, labels="imagenet_1k"': "labels",
    'num_classes=10|num_classes=10, labels="no_such_space"': "no_such_space",
    'num_classes=10|format="timm"': "format 'timm'",
    '"zoo_acme.tiny:Tiny")|"zoo_acme.tiny:Tiny", formats=("native", "timm"))': "key_maps() has no format 'timm'",
    '"zoo_acme.tiny:Tiny")|"zoo_acme.tiny:Tiny", params=5)': "params is declared as 5, and is 211",
    '"zoo_acme.tiny:Tiny")|"zoo_acme.tiny:Tiny", channels=(5,), strides=(4,))': "channels is declared as (5,)",
    "PLUGIN =|NOTHING =": "declares no PLUGIN",
    "PLUGIN =|PLUGIN = 3 #": "unexpected indent",
}


@pytest.mark.parametrize("edit", BAD_ROWS)
def test_a_bad_row_is_refused_and_named(project: Site, edit: str) -> None:
    old, new = edit.split("|")
    assert old in CATALOG
    project.write({"src/zoo_acme/catalog.py": CATALOG.replace(old, new, 1)})
    with pytest.raises(ManifestError) as refused:
        compile_catalog(where(project))
    assert BAD_ROWS[edit] in str(refused.value)


@pytest.mark.parametrize(
    ("factory", "state"),
    [("zoo_acme.tiny:Gone", "contract-failed"), ("zoo_acme.gone:Tiny", "import-failed"),
     ("zoo_acme.tiny:not_a_class", "contract-failed"), ("zoo_acme.tiny:NotAModel", "contract-failed")],
)  # fmt: skip
def test_a_factory_that_is_no_component_is_refused(project: Site, factory: str, state: str) -> None:
    project.write({"src/zoo_acme/catalog.py": CATALOG.replace("zoo_acme.tiny:Tiny", factory)})
    with pytest.raises(PluginError, match="zoo-acme") as refused:
        compile_catalog(where(project))
    assert refused.value.state == state


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("catalog.py", "import torch\n", "imports torch"),
        ("__init__.py", "import torch.nn\n", "imports torch"),
        ("catalog.py", "import sys; sys.exit(4)\n", "status 4"),
        ("catalog.py", "raise ValueError('boom')\n", "ValueError: boom"),
    ],
)
def test_a_catalogue_that_is_more_than_data_is_refused(project: Site, file: str, code: str, why: str) -> None:
    path = project.folder / "src" / "zoo_acme" / file
    path.write_text(code + path.read_text())
    with pytest.raises(ManifestError) as refused:
        compile_catalog(where(project))
    assert why in refused.value.message


def test_a_config_that_lets_anything_in_is_refused(project: Site) -> None:
    loose = "class TinyConfig(ModelConfig):\n        model_config = {'extra': 'allow'}"
    project.write({"src/zoo_acme/tiny.py": MODEL.replace("class TinyConfig(ModelConfig):", loose)})
    with pytest.raises(ManifestError, match="allows unknown options"):
        compile_catalog(where(project))


def test_a_composed_row_is_checked_and_not_built(project: Site) -> None:
    project.write({"src/zoo_acme/tiny.py": MODEL.replace("self.head =", "self.head = 1 /")})
    rows = CATALOG.replace('"zoo_acme.tiny:Tiny"', '"zoo_acme.tiny:Tiny", tags=("composed",)')
    project.write({"src/zoo_acme/catalog.py": rows})
    assert [m.params for m in compile_catalog(where(project)).models] == [None, None]


def test_a_project_is_found_by_folder_module_package_and_namespace(
    project: Site, monkeypatch: pytest.MonkeyPatch, new_site: Callable[[str], Site]
) -> None:
    folder = str(project.folder)
    by_folder = find_project(folder)
    assert find_project(folder + "/") == find_project(str(project.folder / "src" / "zoo_acme")) == by_folder
    monkeypatch.chdir(project.folder)
    assert find_project(".") == by_folder
    monkeypatch.syspath_prepend(str(project.folder / "src"))
    for name in ("zoo_acme.catalog", "zoo_acme", "zoo-acme", "acme"):
        assert find_project(name) == by_folder, name
    assert (by_folder.catalog, by_folder.folder) == ("zoo_acme.catalog", folder)
    core = find_project("core")
    assert core == find_project("zoo.builtin") == find_project("zoo-core")
    assert core.catalog == "zoo.builtin"
    for nothing in ("zoo_nowhere", "../nowhere", "", "a b", str(new_site("empty").folder)):
        with pytest.raises(NotFoundError) as missing:
            find_project(nothing)
        assert missing.value.fix


def test_the_cores_own_manifest_is_what_its_catalogue_compiles_to() -> None:
    assert check("core", full=True) == []


def test_a_sound_project_may_be_published(project: Site) -> None:
    write_manifest(compile_plugin(where(project)))
    assert check(where(project)) == []


def _edit(project: Site, name: str, old: str, new: str) -> None:
    path = project.folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


EXIT = "import os; os.getpid() == PID or os._exit(3); super().__init__(config)"
"""Unlike the doctor's, this very process may build it."""
SPOILT: dict[str, tuple[str, Callable[[Site], object]]] = {
    "drift": ("manifest", lambda p: _edit(p, "src/zoo_acme/catalog.py", "Tiny models", "Other models")),
    "no manifest": ("manifest", lambda p: (p.folder / "src/zoo_acme/zoo.json").unlink()),
    "torch": ("catalog", lambda p: _edit(p, "src/zoo_acme/catalog.py", "PLUGIN =", "import torch\nPLUGIN =")),
    "distribution": ("entry-point", lambda p: _edit(p, "pyproject.toml", '"zoo-acme"', '"zoo-other"')),
    "namespace": ("entry-point", lambda p: _edit(p, "pyproject.toml", "acme = ", "cnn = ")),
    "second entry": ("entry-point", lambda p: _edit(p, "pyproject.toml", "acme = ", 'cnn = "zoo_cnn:x.json"\nacme = ')),
    "other file": ("entry-point", lambda p: _edit(p, "pyproject.toml", "zoo.json", "other.json")),
    "no readme": ("readme", lambda p: (p.folder / "README.md").unlink()),
    "no licence": ("license", lambda p: _edit(p, "pyproject.toml", "license", "#")),
    "exits": ("build", lambda p: _edit(p, "src/zoo_acme/tiny.py", "super().__init__(config)", EXIT)),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILT)
def test_what_has_to_be_mended_is_found(project: Site, fault: str) -> None:
    import os

    _edit(project, "src/zoo_acme/tiny.py", "import torch\n", f"import torch\nPID = {os.getpid()}\n")
    write_manifest(compile_plugin(where(project)))
    rule, spoil = SPOILT[fault]
    spoil(project)
    findings = check(where(project))
    assert [finding.rule for finding in findings] == [rule]
    assert findings[0].message
    assert findings[0].fix


def test_hooks_need_a_declaration_and_an_entry_point(project: Site) -> None:
    _edit(project, "src/zoo_acme/catalog.py", "summary=", 'hooks=("read_weights", "no_such_hook"), summary=')
    write_manifest(compile_plugin(where(project)))
    messages = [finding.message for finding in check(where(project)) if finding.rule == "hooks"]
    assert len(messages) == 2
    assert "no_such_hook" in messages[0]
    assert "entry point of zoo.hooks" in messages[1]


def test_an_installed_plugin_is_checked_by_its_metadata(installed: Site) -> None:
    files = {"__init__.py": "", "catalog.py": CATALOG, "tiny.py": MODEL}
    metadata = installed.plugin("acme", ..., files=files)
    write_manifest(compile_plugin("acme"))
    assert {finding.rule for finding in check("acme")} == {"readme", "license"}
    with open(metadata / "METADATA", "a") as stream:
        stream.write("License-Expression: MIT\n\nA description.\n")
    assert check("acme") == []


PAIR = """
    import zoo
    from pydantic import Field
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

    class PairConfig(ModelConfig):
        backbone: zoo.Part = Field("acme/tiny")

    class Pair(Model):
        Config = PairConfig

        def __init__(self, config):
            super().__init__(config)
            self.backbone = zoo.build_backbone(config.backbone)
"""


def test_a_row_may_be_made_of_another_row_of_the_same_plugin(installed: Site) -> None:
    made_of_tiny = CATALOG.replace("models=(", 'models=(ModelSpec(name="pair", factory="zoo_acme.pair:Pair"),')
    files = {"__init__.py": "", "catalog.py": made_of_tiny, "tiny.py": MODEL, "pair.py": PAIR}
    installed.plugin("acme", ..., files=files)
    compiled = write_compiled("acme")
    assert compiled.changed
    assert {m.name: m.params for m in compiled.spec.models} == {"pair": 196, "tiny": 211, "wide": 419}
    assert not write_compiled("acme").changed


def test_a_manifest_stays_as_it_was_where_compiling_fails(project: Site) -> None:
    path = write_compiled(where(project)).path
    before = Path(path).read_bytes()
    _edit(project, "src/zoo_acme/catalog.py", 'name="tiny"', 'name="other"')
    _edit(project, "src/zoo_acme/tiny.py", "super().__init__(config)", "super().__init__(config); 1 / 0")
    with pytest.raises(ManifestError, match="ZeroDivisionError"):
        write_compiled(where(project))
    assert Path(path).read_bytes() == before
    Path(path).unlink()
    with pytest.raises(ManifestError, match="ZeroDivisionError"):
        write_compiled(where(project))
    assert not Path(path).exists()
