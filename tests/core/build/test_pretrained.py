"""A saved folder round-trips, is written whole or not at all, and cannot choose what code runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import zoo
from loopback_hub import LoopbackHub

IMAGES = torch.rand(1, 3, 64, 64)


class TinyConfig(zoo.ModelConfig):
    num_classes: int = 3
    width: int = 4


class Tiny(zoo.Classifier):
    """A classifier of the caller's own, in no plugin."""

    Config = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.width, 3)
        self.fc = nn.Linear(config.width, config.num_classes)

    @property
    def num_classes(self) -> int:
        return self.fc.out_features

    def forward(
        self, images: Tensor, targets: Tensor | None = None, *, output_features: bool = False
    ) -> dict[str, Tensor]:
        embeddings = self.stem(images).mean(dim=(2, 3))
        return {"embeddings": embeddings, "logits": self.fc(embeddings)}


def outputs(model: nn.Module) -> Mapping[str, Tensor]:
    with torch.inference_mode():
        return model.eval()(IMAGES)


def same_logits(one: nn.Module, other: nn.Module) -> None:
    """Equal up to the kernel chosen for differently aligned weights."""
    torch.testing.assert_close(outputs(one)["logits"], outputs(other)["logits"], atol=1e-6, rtol=0)


def test_a_model_of_a_plugin_round_trips_by_path_alone(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5, img_size=96)
    model.label_space = zoo.LabelSpace(name="five", names=("a", "b", "c", "d", "e"))
    model.save_pretrained(tmp_path / "saved")
    again = zoo.create(f"file://{tmp_path / 'saved'}")
    assert type(again) is type(model)
    assert again.config == model.config
    assert again.input_spec == model.input_spec
    assert again.label_space == model.label_space
    same_logits(again, model)


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "b", "c", "d")], ids=["fewer names than outputs", "more names than outputs"]
)
def test_labels_that_do_not_fit_the_outputs_are_refused_before_anything_is_written(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    model = Tiny(num_classes=3)
    model.label_space = zoo.LabelSpace(name="few", names=names)
    with pytest.raises(zoo.LabelError, match=f"Tiny has 3 outputs, but label space 'few' has {len(names)}") as error:
        model.save_pretrained(tmp_path / "saved")
    assert "model.label_space = " in str(error.value.fix)
    assert not (tmp_path / "saved").exists()
    model.label_space = zoo.LabelSpace(name="three", names=("a", "b", "c"))
    model.save_pretrained(tmp_path / "saved")


def test_a_class_of_the_callers_own_round_trips_through_the_class(tmp_path: Path) -> None:
    model = Tiny(num_classes=7)
    model.save_pretrained(tmp_path / "saved")
    again = Tiny.from_pretrained(tmp_path / "saved")
    same_logits(again, model)
    with pytest.raises(zoo.PluginError, match="no installed plugin"):
        zoo.create(f"file://{tmp_path / 'saved'}")


def test_classes_open_published_names_and_refuse_other_families() -> None:
    from zoo_cnn import ConvNeXt, MobileNetV2

    model = MobileNetV2.from_pretrained("mobilenetv2")
    assert model.load_report.ok
    assert not model.training
    with pytest.raises(zoo.OptionError, match="not a ConvNeXt"):
        ConvNeXt.from_pretrained("mobilenetv2")


def test_a_backbone_and_a_composed_model_round_trip(tmp_path: Path) -> None:
    backbone = zoo.create_backbone("resnet18", out_indices=(1, 2)).eval()
    backbone.save_pretrained(tmp_path / "backbone")
    again = zoo.create(f"file://{tmp_path / 'backbone'}")
    with torch.inference_mode():
        for mine, theirs in zip(again(IMAGES), backbone(IMAGES), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    composed = zoo.create_model(backbone=backbone, num_classes=4)
    composed.save_pretrained(tmp_path / "composed")
    again = zoo.create(f"file://{tmp_path / 'composed'}")
    assert again.backbone.strides == backbone.strides
    same_logits(again, composed)


def test_features_and_another_head_from_a_saved_classifier(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5)
    model.save_pretrained(tmp_path / "saved")
    source = f"file://{tmp_path / 'saved'}"
    backbone = zoo.create(source, features_only=True, out_indices=(4,))
    assert torch.equal(backbone.encoder.conv1.weight, model.encoder.conv1.weight)
    other = zoo.create(source, num_classes=2)
    assert outputs(other)["logits"].shape == (1, 2)
    assert torch.equal(other.encoder.conv1.weight, model.encoder.conv1.weight)
    assert other.load_report.reinitialised
    with pytest.raises(zoo.OptionError, match="depth"):
        zoo.create(source, depth=34)


def test_a_published_format_can_be_written_and_is_what_timm_reads(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5)
    model.save_pretrained(tmp_path / "saved", format="timm")
    reference = timm.create_model("resnet18", num_classes=5)
    reference.load_state_dict(load_file(tmp_path / "saved" / "model.safetensors"), strict=True)
    torch.testing.assert_close(outputs(model)["logits"], reference.eval()(IMAGES), atol=1e-5, rtol=0)
    again = zoo.create(f"file://{tmp_path / 'saved'}")
    same_logits(again, model)


def test_a_hub_repository_is_a_saved_folder(hub: LoopbackHub, tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5)
    model.save_pretrained(tmp_path / "saved")
    for name in ("config.json", "model.safetensors"):
        hub.add("acme/five", name, (tmp_path / "saved" / name).read_bytes())
    again = zoo.create("hf://acme/five", allow_licenses="unknown")
    same_logits(again, model)
    assert again.provenance.source.startswith("hf://acme/five@")
    assert len(again.provenance.sha256) == 64


def test_a_saved_model_is_never_overwritten(tmp_path: Path) -> None:
    model = Tiny()
    model.save_pretrained(tmp_path / "saved")
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()
    with pytest.raises(zoo.CheckpointError, match="never overwritten"):
        Tiny().save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["saved"]


def test_a_save_that_is_killed_leaves_nothing_that_looks_like_a_model(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, threading, time\n"
        "from zoo_cnn import ResNet\n"
        "model = ResNet(depth=18)\n"
        "delay = float(sys.argv[2])\n"
        "threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGKILL))).start()\n"
        "model.save_pretrained(sys.argv[1])\n"
        "print('saved', flush=True)\n"
        "time.sleep(30)\n"
    )
    for i, delay in enumerate((0.0, 0.01, 0.03, 0.2)):
        target = tmp_path / f"saved{i}"
        done = subprocess.run(
            [sys.executable, "-c", code, str(target), str(delay)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == -9
        if "saved" in done.stdout or target.exists():
            assert zoo.create(f"file://{target}").load_report.ok


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config.write_text("{"),
        lambda config: config.write_text("[]"),
        lambda config: config.write_text('{"zoo": 1}'),
        lambda config: config.write_text(config.read_text().replace('"zoo": 1', '"zoo": 99')),
        lambda config: config.unlink(),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, damage: object) -> None:
    zoo.create("resnet18", num_classes=2).save_pretrained(tmp_path / "saved")
    damage(tmp_path / "saved" / "config.json")  # type: ignore[operator]  # a parameter
    with pytest.raises(zoo.CheckpointError, match="config"):
        zoo.create(f"file://{tmp_path / 'saved'}")


@pytest.mark.parametrize("factory", ["os:system", "subprocess:Popen", "zoo.errors:ZooError", "zoo_cnn.resnet:Nothing"])
def test_a_folder_cannot_choose_what_code_runs(tmp_path: Path, factory: str) -> None:
    zoo.create("resnet18", num_classes=2).save_pretrained(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    record = json.loads(config.read_text())
    config.write_text(json.dumps({**record, "factory": factory}))
    with pytest.raises(zoo.PluginError):
        zoo.create(f"file://{tmp_path / 'saved'}")


# What a review found; each of these was wrong once.


def test_default_preprocessing_is_saved_too(tmp_path: Path) -> None:
    model = zoo.create("mobilenetv2", pretrained=True)
    assert model.input_spec.to_dict() == {}
    model.save_pretrained(tmp_path / "saved")
    again = zoo.create(f"file://{tmp_path / 'saved'}")
    assert again.input_spec == model.input_spec
    photo = "examples/photos/chelsea.png"
    mine, theirs = again.predict(photo)[0], model.predict(photo)[0]
    assert mine.label == theirs.label
    assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_the_same_number_of_classes_keeps_the_trained_head(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5)
    model.save_pretrained(tmp_path / "saved")
    again = zoo.create(f"file://{tmp_path / 'saved'}", num_classes=5)
    assert torch.equal(again.encoder.fc.weight, model.encoder.fc.weight)


@pytest.mark.parametrize(
    "part",
    [
        {"name": "resnet18", "pretrained": True},
        {"name": "resnet18", "checkpoint": "file:///etc/passwd"},
        {"name": "resnet18", "allow_licenses": "*"},
        "hf://acme/anything",
        {"factory": "zoo_timm.adapter:TimmBackbone", "config": {"arguments": {"pretrained": True}}},
        {"factory": "zoo_timm.adapter:TimmBackbone", "config": {"arguments": {"checkpoint_path": "/etc/passwd"}}},
    ],
)
def test_a_saved_config_cannot_have_anything_fetched(tmp_path: Path, hub: LoopbackHub, part: object) -> None:
    zoo.create_model(backbone="resnet18", num_classes=2).save_pretrained(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    record = json.loads(config.read_text())
    record["config"]["backbone"] = part
    config.write_text(json.dumps(record))
    with pytest.raises((zoo.FormatError, zoo.OptionError)):
        zoo.create(f"file://{tmp_path / 'saved'}")
    assert hub.seen == []


@pytest.mark.parametrize(
    "change", [{"provenance": 5}, {"format": []}, {"labels": {"names": ["a"]}}, {"input": {"size": 3}}]
)
def test_a_lying_config_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    zoo.create("resnet18", num_classes=2).save_pretrained(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(zoo.ZooError):
        zoo.create(f"file://{tmp_path / 'saved'}")


def test_licences_hold_for_saved_models_too(tmp_path: Path, hub: LoopbackHub) -> None:
    model = zoo.create("resnet18", num_classes=2)
    model.provenance = zoo.Provenance(ref="cnn/resnet18@1", license="CC-BY-NC-4.0")
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(zoo.LicenseError, match="CC-BY-NC"):
        zoo.create(f"file://{tmp_path / 'saved'}")
    assert zoo.create(f"file://{tmp_path / 'saved'}", allow_licenses=["CC-BY-NC-4.0"]).load_report.ok


def test_what_could_not_be_opened_again_is_not_written(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=2)
    model.head = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    with pytest.raises(zoo.UnsupportedError, match="opened again"):
        model.save_pretrained(tmp_path / "saved")
    backbone = zoo.create_backbone("resnet18")
    with pytest.raises(zoo.OptionError, match="format"):
        backbone.save_pretrained(tmp_path / "saved", format="torchvision")
    assert not (tmp_path / "saved").exists()


def test_a_folder_with_a_blank_in_its_name_and_one_named_like_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.create("resnet18", num_classes=2).save_pretrained(tmp_path / "a b")
    assert zoo.create((tmp_path / "a b").as_uri()).load_report.ok
    (tmp_path / "mobilenetv2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert zoo.Classifier.from_pretrained("mobilenetv2").num_classes == 1000
    assert zoo.Backbone.from_pretrained(tmp_path / "a b", features_only=True, out_indices=(4,)).strides == (32,)


def test_the_callers_own_weights_are_opened_after_any_number_of_saves(tmp_path: Path) -> None:
    zoo.create("resnet18", num_classes=2).save_pretrained(tmp_path / "1")
    for before, after in (("1", "2"), ("2", "3")):
        zoo.Classifier.from_pretrained(tmp_path / before).save_pretrained(tmp_path / after)
    again = zoo.Classifier.from_pretrained(tmp_path / "3")
    assert again.provenance is not None
    assert again.provenance.license == ""
    zoo.Backbone.from_pretrained(tmp_path / "1", features_only=True).save_pretrained(tmp_path / "maps")
    assert zoo.Backbone.from_pretrained(tmp_path / "maps").load_report.ok
    own = zoo.create("resnet18", num_classes=2, checkpoint=tmp_path / "1" / "model.safetensors")
    own.save_pretrained(tmp_path / "own")
    assert zoo.create(f"file://{tmp_path / 'own'}").load_report.ok


def test_a_licence_travels_with_the_file_and_with_what_came_from_the_hub(tmp_path: Path, hub: LoopbackHub) -> None:
    model = zoo.create("resnet18", num_classes=2)
    model.save_pretrained(tmp_path / "nobody")
    model.provenance = zoo.Provenance(ref="cnn/resnet18@1", license="CC-BY-NC-4.0")
    model.save_pretrained(tmp_path / "1")
    file = tmp_path / "1" / "model.safetensors"
    zoo.create("resnet18", num_classes=2, checkpoint=file, allow_licenses="CC-BY-NC-4.0").save_pretrained(
        tmp_path / "2"
    )
    with pytest.raises(zoo.LicenseError, match="CC-BY-NC"):
        zoo.create(f"file://{tmp_path / '2'}")
    for name in ("config.json", "model.safetensors"):
        hub.add("acme/nobody", name, (tmp_path / "nobody" / name).read_bytes())
    zoo.create("hf://acme/nobody", allow_licenses="unknown").save_pretrained(tmp_path / "3")
    with pytest.raises(zoo.LicenseError, match="no known licence"):
        zoo.create(f"file://{tmp_path / '3'}")
