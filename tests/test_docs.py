"""Every code block of the documentation runs, and everything public is in it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo
from doc_blocks import Block, Workshop, blocks, environment_beside
from loopback_hub import running_hub

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
GUIDES = (
    "using_models.md",
    "detection.md",
    "detection_evaluation.md",
    "tree_crowns.md",
    "choosing_models.md",
    "seeing_inside.md",
    "weights.md",
    "resuming_training.md",
    "versions.md",
    "locking.md",
    "benchmarks.md",
)
SLOW = (
    "choosing_models.md",
    "detection.md",
    "detection_evaluation.md",
    "seeing_inside.md",
    "tree_crowns.md",
    "using_models.md",
    "versions.md",
)
INSTALLED = re.compile(r"python3 -m pip install uv && |(?:python3 -m )?uv run ")  # what installs, and then runs
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",
    "NO_COLOR": "1",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the examples in it, where a reader of the documentation would stand."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.fixture
def here(folder: Path) -> Iterator[Workshop]:
    """A workshop in this very environment."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    workshop = Workshop(folder, sys.executable, {**OFFLINE, "PATH": path})
    yield workshop
    workshop.close()


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.long) if page in SLOW else page for page in GUIDES]
)
def test_every_block_of_a_guide_runs(page: str, here: Workshop) -> None:
    for block in blocks(ROOT / "docs" / page):
        here.run(block)


@pytest.mark.long
def test_the_readme_does_what_it_says(folder: Path) -> None:
    """Without installing, and with a hub on this machine that has random weights under the names it uses."""
    tools = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    with running_hub() as hub:
        hub.add("timm/resnet50.a1_in1k", "model.safetensors", random_weights("resnet50"))
        hub.add("timm/vit_small_patch14_dinov2.lvd142m", "model.safetensors", random_weights("dinov2_vits14"))
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hf"), "NO_COLOR": "1", "PATH": tools}
        workshop = Workshop(folder, sys.executable, online)
        for block in blocks(ROOT / "README.md"):
            if "pytest" not in block.text:  # that is this very run
                workshop.run(block._replace(text=INSTALLED.sub("", block.text)))
        workshop.close()
        assert hub.body_bytes > 180_000_000


def random_weights(ref: str) -> bytes:
    """A model's weights as timm publishes them."""
    from safetensors.torch import save

    model = zoo.create(ref)
    return save(model.key_maps()["timm"].save(model.state_dict()))


@pytest.mark.long
def test_a_newcomer_gets_from_an_empty_folder_to_an_installed_plugin(folder: Path) -> None:
    beside = environment_beside(folder / "environment")
    workshop = Workshop(folder, f"{beside}/python", {**OFFLINE, "PATH": os.pathsep.join([beside, os.environ["PATH"]])})
    page = blocks(ROOT / "docs" / "writing_a_plugin.md")
    assert len(page) > 10
    for block in page:
        workshop.run(block)
    workshop.close()


def test_no_page_is_left_out() -> None:
    assert {page.name for page in PAGES} == {*GUIDES, "writing_a_plugin.md"}


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *PAGES, *ROOT.glob("*/README.md"), *ROOT.glob("plugins/*/README.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def words() -> str:
    """Everything the documentation says in code spans and blocks."""
    texts = [page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *PAGES]]
    return "\n".join(part for text in texts for part in re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


def test_every_public_name_is_documented() -> None:
    said = words()
    assert not [name for name in zoo.__all__ if not re.search(rf"\b{name}\b", said)]


def test_every_hook_is_documented() -> None:
    from zoo.plugin.hooks import HOOKS

    page = (ROOT / "docs" / "writing_a_plugin.md").read_text(encoding="utf-8")
    assert not [name for name in HOOKS if f"| `{name}` |" not in page]


def test_every_command_is_documented() -> None:
    from zoo.cli import COMMANDS

    said = words()
    assert not [name for name in COMMANDS if not re.search(rf"\bzoo {name}\b", said)]


# The runner itself: a block that fails must fail its page.


@pytest.mark.parametrize(
    "block",
    [
        Block("bash", "", "false\ntrue\n", "sample:1"),
        Block("bash", "", "false | true\n", "sample:1"),
        Block("python", "", "assert 1 == 2\n", "sample:1"),
        Block("python", "", "import sys; sys.exit(0)\n", "sample:1"),
        Block("python", "", "import os; os._exit(0)\n", "sample:1"),
        Block("diff", "absent.txt", " a\n+b\n", "sample:1"),
        Block("ruby", "", "puts 1\n", "sample:1"),
    ],
)
def test_a_failing_block_is_noticed(block: Block, here: Workshop) -> None:
    (here.folder / "absent.txt").write_text("nothing of the kind\n")
    with pytest.raises(AssertionError, match="sample:1"):
        here.run(block)


def test_blocks_share_a_namespace_and_print_where_they_like(here: Workshop, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1; print(x)\n```\ntext\n```python kept.py\ny = 2\n```\n"
        "```diff kept.py\n y = 2\n+z = 3\n```\n```\nshown only\n```\n"
        "```bash\ncat kept.py > copied\n```\n"
        "```python\nassert open('copied').read() == 'y = 2\\nz = 3\\n' and x == 1\n```\n"
    )
    found = blocks(page)
    assert [block.language for block in found] == ["python", "python", "diff", "", "bash", "python"]
    for block in found:
        here.run(block)
