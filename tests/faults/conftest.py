"""What every fault test shares: imports and a catalogue that are warm, and the toll at the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import arrival_operations
import file_operations  # noqa: F401  # each of these adds its operations to `ALL`
import pytest
import registry_operations  # noqa: F401  # as above
import toll
import training_operations  # noqa: F401  # as above
import transfer_operations  # noqa: F401  # as above
from lives import Stage
from operations import ALL, Operation
from stones import stone

import zoo
from zoo.catalog import open_catalog


@pytest.fixture(scope="session")
def served() -> Iterator[None]:
    """A web server and a Hub, for downloads."""
    with arrival_operations.serving():
        yield


@pytest.fixture(scope="session")
def warm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing but the catalogue; what a child will import is imported, so that its life is short."""
    home = tmp_path_factory.mktemp("warm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(home))
        open_catalog().plugins()
        import torch._dynamo  # torch's optimizers import it when they load, and it takes seconds

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a forked child has none of its parent's
        zoo.register_model(stone(0), name="warm", version="1.0.0")
        zoo.create("local/warm")
        torch.set_num_threads(threads)
        shutil.rmtree(home / "registry")
        shutil.rmtree(home / "blobs")
        shutil.rmtree(home / "records")
    return home


RELATED = {
    *("download without a digest", "download from the Hub", "adoption and pin", "the first register", "rollback"),
    *("save_checkpoint", "save_checkpoint, background", "save_pretrained", "registry export"),
    *("bundle as a file", "bundle as a folder", "taking a bundle"),
}
"""Operations that have a near relative among the others: killed in the long form only."""

PARAMETERS = [
    pytest.param(one, id=one.name.replace(" ", "-"), marks=[pytest.mark.long] if one.name in RELATED else [])
    for one in ALL
]


@pytest.fixture(scope="session", params=PARAMETERS)
def stage(
    request: pytest.FixtureRequest, warm_home: Path, served: None, tmp_path_factory: pytest.TempPathFactory
) -> Stage:
    """Every operation, ready to be killed."""
    operation: Operation = request.param
    return Stage(operation, tmp_path_factory.mktemp("stage"), warm_home)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Of several processes each hands its toll to the one that reports; see tests/conftest.py."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = told(session.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many processes were killed, and where; where each died only in the long form or with `-v`."""
    for number, line in enumerate(told(config)):
        if not number:
            terminalreporter.section("faults")
        terminalreporter.line(line)


def told(config: pytest.Config) -> list[str]:
    """The toll of this process."""
    return list(toll.report(points=config.get_verbosity() > 0 or config.getoption("markexpr") == "long"))
