"""Every way to weights asks about their licence, and every one is opened by one argument."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from loopback_hub import LoopbackHub
from synthetic_plugins import MODEL, Site, manifest_of
from zoo.build.gathering import gather
from zoo.build.licensing import of_refs
from zoo.build.locking import lock_ref
from zoo.checkpoints.sources import stored
from zoo.checkpoints.store import Store
from zoo_command import zoo as command

LICENSE = "CC-BY-NC-4.0"
IN_PARTS = MODEL.replace("width: int = 4", "width: int = 4\n        in_chans: int = 3")
SCHEMA = {"properties": {name: {"type": "integer"} for name in ("width", "in_chans", "num_classes")}}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin with non-commercial weights: of the whole model, and of its backbone alone."""
    site = Site(tmp_path / "site")
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 3)
    maps = {f"stem.{name}": tensor for name, tensor in stem.state_dict().items()}
    save_file(maps, tmp_path / "maps.safetensors")
    save_file(maps | {f"head.{name}": t for name, t in head.state_dict().items()}, tmp_path / "whole.safetensors")
    manifest = manifest_of("acme", schemas={"zoo_acme.tiny:Tiny": SCHEMA})
    manifest["models"][0]["checkpoints"] = [
        {"name": name, "sources": [f"file://{tmp_path / name}.safetensors"], "license": LICENSE, **classes}
        for name, classes in (("whole", {"num_classes": 3}), ("maps", {}))
    ]
    site.plugin("acme", manifest, files={"tiny.py": IN_PARTS})
    monkeypatch.syspath_prepend(str(site.folder))
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    yield site.folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo_acme"]:
        del sys.modules[name]


def refused(door: Callable[..., Any]) -> str:
    """Go in without leave; then do what the error says, word for word. Returns what it said."""
    with pytest.raises(zoo.LicenseError, match=LICENSE) as raised:
        door()
    fix = str(raised.value.fix)
    argument = fix.partition(", if you may")[0]
    assert argument == f'allow_licenses=["{LICENSE}"]'
    assert door(**eval(f"dict({argument})")) is not None
    return fix


def test_create_from_pretrained_and_backbones_ask(site: Path) -> None:
    refused(lambda **leave: zoo.create("acme/tiny", pretrained=True, **leave))
    refused(lambda **leave: zoo.create("acme/tiny", checkpoint="whole", **leave))
    refused(lambda **leave: zoo.create_backbone("acme/tiny.maps", pretrained=True, **leave))
    refused(lambda **leave: zoo.Classifier.from_pretrained("acme/tiny", **leave))
    assert zoo.create("acme/tiny") is not None, "random weights are nobody's"


def test_a_part_of_a_composed_model_is_accepted_in_it_or_around_it(site: Path, tmp_path: Path) -> None:
    part = {"name": "acme/tiny.maps", "pretrained": True}
    refused(lambda **leave: zoo.create("classifier", backbone=part, num_classes=2, **leave))
    refused(lambda **leave: zoo.create("classifier", backbone=part | leave, num_classes=2))
    refused(lambda **leave: zoo.create_model(backbone=part, num_classes=2, **leave))
    model = zoo.create("classifier", backbone=part | {"allow_licenses": "*"}, num_classes=2)
    model.save_pretrained(tmp_path / "composed")
    refused(lambda **leave: zoo.create(f"file://{tmp_path / 'composed'}", **leave))
    with pytest.raises(zoo.LicenseError):
        zoo.create("classifier", backbone=part, num_classes=2)


def test_saved_models_here_on_the_hub_and_in_the_registry_ask(site: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    model = zoo.create("acme/tiny", pretrained=True, allow_licenses="*")
    model.save_pretrained(tmp_path / "saved")
    zoo.register_model(model, name="pets", version="1.0.0")
    for name in ("config.json", "model.safetensors"):
        hub.add("acme/saved", name, (tmp_path / "saved" / name).read_bytes(), lfs=name != "config.json")
    for ref in (f"file://{tmp_path / 'saved'}", "hf://acme/saved", "local/pets@1.0.0"):
        refused(lambda ref=ref, **leave: zoo.create(ref, **leave))
        refused(lambda ref=ref, **leave: zoo.Classifier.from_pretrained(ref, **leave))
    refused(lambda **leave: zoo.ModelRegistry().load("pets", **leave))


@pytest.fixture
def own(site: Path, tmp_path: Path, hub: LoopbackHub) -> dict[str, str]:
    """Addresses of weights that no catalogue knows: some say what licence they were saved with, others say nothing."""
    model = zoo.create("acme/tiny", pretrained=True, allow_licenses="*")
    model.save_pretrained(tmp_path / "nc")
    model.save_pretrained(tmp_path / "parts", max_shard_size="100B")
    stated, plain = tmp_path / "nc" / "model.safetensors", tmp_path / "whole.safetensors"
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    for name, path in (("nc", stated), ("plain", plain)):
        hub.add("acme/files", f"{name}.safetensors", path.read_bytes())
    hub.add("acme/files", "plain.pt", (tmp_path / "plain.pt").read_bytes())
    return {
        "stated here": str(stated),
        "stated in parts here": str(tmp_path / "parts"),
        "stated there": "hf://acme/files/nc.safetensors",
        "unstated here": str(plain),
        "unstated there": "hf://acme/files/plain.safetensors",
        "torch there": "hf://acme/files/plain.pt",
    }


def test_a_file_by_address_asks_by_what_it_says_of_itself(own: dict[str, str], hub: LoopbackHub) -> None:
    for name in ("stated here", "stated in parts here", "stated there"):
        refused(lambda name=name, **leave: zoo.create("acme/tiny", checkpoint=own[name], **leave))
    assert zoo.create("acme/tiny", checkpoint=own["unstated here"]).provenance.license == ""


@pytest.mark.parametrize("name", ["unstated there", "torch there"])
def test_a_file_from_elsewhere_that_says_nothing_is_unknown_everywhere(
    own: dict[str, str], hub: LoopbackHub, tmp_path: Path, name: str
) -> None:
    source = own[name]
    with pytest.raises(zoo.LicenseError, match="no known licence") as raised:
        zoo.create("acme/tiny", checkpoint=source)
    assert raised.value.found == "unknown"
    with pytest.raises(zoo.LicenseError):
        gather(source, Store())
    assert stored((source,)) is None, "it was asked for before it was fetched"
    model = zoo.create("acme/tiny", checkpoint=source, allow_licenses="unknown")
    assert model.provenance.license == "unknown"
    with pytest.raises(zoo.LicenseError):
        zoo.create("acme/tiny", checkpoint=source)
    assert gather(source, Store(), allow_licenses="unknown")
    model.save_pretrained(tmp_path / "copy")
    zoo.register_model(model, name="copy", version="1.0.0")
    for ref in (f"file://{tmp_path / 'copy'}", "local/copy"):
        with pytest.raises(zoo.LicenseError):
            zoo.create(ref)
    with pytest.raises(zoo.LicenseError):
        zoo.create("acme/tiny", checkpoint=tmp_path / "copy")
    assert lock_ref(source).license == "unknown"
    assert [model.license_class for model in of_refs([source, "local/copy"])] == ["unknown", "unknown"]


def test_locks_and_reports_have_the_licence_that_the_file_states(own: dict[str, str]) -> None:
    for name in ("stated here", "stated there"):
        source = own[name] if "://" in own[name] else f"file://{own[name]}"
        assert lock_ref(source).license == LICENSE, "also before it is here"
        with pytest.raises(zoo.LicenseError, match=LICENSE):
            gather(source, Store())
        gather(source, Store(), allow_licenses=[LICENSE])
        assert [model.license for model in of_refs([source])] == [LICENSE]
    plain = f"file://{own['unstated here']}"
    assert lock_ref(plain).license == ""
    assert gather(plain, Store())


def test_the_variable_opens_every_door(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_ALLOW_LICENSES", LICENSE)
    part = {"name": "acme/tiny.maps", "pretrained": True}
    assert zoo.create("classifier", backbone=part, num_classes=2) is not None
    assert zoo.create("acme/tiny", pretrained=True).provenance.license == LICENSE


def test_the_command_line_names_its_own_option(site: Path) -> None:
    photo = "examples/photos/chelsea.png"
    told = command("predict", "acme/tiny", photo, site=site)
    assert told.code == 1
    assert f'try:   --allow-license "{LICENSE}", if you may use them so' in told.err
    assert "allow_licenses" not in told.err
    opened = command("predict", "acme/tiny", photo, "--allow-license", LICENSE, site=site)
    assert "LicenseError" not in opened.err
    assert LICENSE not in opened.err
    assert command("list", "acme/*", "--license", "permissive", site=site).code == 1
    for license in ("non-commercial", LICENSE):
        assert "acme/tiny" in command("list", "acme/*", "--license", license, site=site).out
