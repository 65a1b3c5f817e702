"""`zoo predict` with weights from a hub: the genuine client, a server on this machine, and what can go wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo as zoo_library
from loopback_hub import Fault, LoopbackHub, running_hub
from photos import photo
from zoo_command import Outcome, zoo, zoo_on_a_terminal

REPO, FILE = "timm/mobilenetv2_100.ra_in1k", "model.safetensors"


@pytest.fixture(scope="module")
def weights() -> bytes:
    """The weights at hand, as the hub has them: in timm's names, in safetensors."""
    from safetensors.torch import save

    model = zoo_library.create("mobilenetv2", pretrained=True)
    return save(model.key_maps()["timm"].save(model.state_dict()))


@pytest.fixture
def hub(weights: bytes) -> Iterator[LoopbackHub]:
    with running_hub() as running:
        running.add(REPO, FILE, weights)
        yield running


def online(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}


def predict(hub: LoopbackHub, tmp_path: Path, *words: str, **settings: str) -> Outcome:
    env = online(hub, tmp_path) | settings
    return zoo("predict", "mobilenetv2.ra_in1k", str(photo("chelsea")), "--json", *words, env=env, cwd=tmp_path)


def test_weights_come_from_the_hub_once_and_then_from_the_store(hub: LoopbackHub, tmp_path: Path) -> None:
    first = predict(hub, tmp_path)
    assert (first.code, first.err) == (0, "")
    assert json.loads(first.out)[0]["label"] == "Egyptian cat"
    asked = hub.body_bytes
    assert asked > 14_000_000
    assert predict(hub, tmp_path, HF_HUB_OFFLINE="1") == first
    assert hub.body_bytes == asked


def test_offline_and_without_them_it_says_so(hub: LoopbackHub, tmp_path: Path) -> None:
    outcome = predict(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert outcome.code == 1
    assert json.loads(outcome.out)["error"]["code"] == "offline"
    assert hub.body_bytes == 0


def test_a_hub_that_has_no_such_file_is_named(tmp_path: Path) -> None:
    with running_hub() as empty:
        outcome = zoo(
            "predict", "mobilenetv2.ra_in1k", str(photo("chelsea")), env=online(empty, tmp_path), cwd=tmp_path
        )
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: ")
    assert REPO in outcome.err
    assert "try: " in outcome.err


@pytest.mark.long
def test_a_slow_download_shows_how_far_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.cdn_faults += [Fault(slow=0.006) for _ in range(3)]
    shown = zoo_on_a_terminal(
        "predict", "mobilenetv2.ra_in1k", str(photo("chelsea")), env=online(hub, tmp_path), cwd=tmp_path, columns=100
    )
    assert shown.code == 0
    painted = re.findall(r"fetching .*?(\d+)%  ([\d.]+) of ([\d.]+) MB", shown.out)
    assert len(painted) > 1
    assert {total for *_, total in painted} == {"14.2"}
    assert "Egyptian cat" in shown.out
