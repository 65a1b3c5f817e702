"""create(): from a reference to a model, with weights from a hub on loopback in the published layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn

import zoo
from loopback_hub import LoopbackHub
from zoo.models.config import SpellingWarning

IMAGES = torch.rand(2, 3, 96, 96)


@torch.inference_mode()
def logits(model: Any, images: torch.Tensor = IMAGES) -> torch.Tensor:
    out = model(images)
    return out["logits"] if isinstance(out, dict) else out


def test_pretrained_weights_give_the_reference_logits_and_every_tensor_is_accounted_for(
    published: LoopbackHub, resnet18: nn.Module
) -> None:
    model = zoo.create("resnet18", pretrained=True)
    torch.testing.assert_close(logits(model), logits(resnet18), atol=1e-5, rtol=0)
    assert not model.training
    assert model.load_report.ok
    assert len(model.load_report.loaded) == len(resnet18.state_dict())
    assert model.label_space.names[281] == "tabby"
    origin = model.provenance
    assert origin.ref == "cnn/resnet18.a1_in1k@1"
    assert origin.source.startswith("hf://timm/resnet18.a1_in1k@")
    assert (origin.distribution, origin.license, origin.pinned) == ("zoo-cnn", "Apache-2.0", "first-use")


def test_the_second_time_nothing_is_asked_of_the_network(published: LoopbackHub) -> None:
    zoo.create("resnet18", pretrained=True)
    asked = len(published.seen)
    zoo.create("resnet18", pretrained=True)
    assert asked > 0
    assert len(published.seen) == asked


def test_random_weights_unless_asked_and_then_no_network(published: LoopbackHub) -> None:
    model = zoo.create("resnet18.a1_in1k")
    assert published.seen == []
    assert model.training
    assert model.provenance is None
    assert model.encoder.fc.weight.std() > 0


def test_another_number_of_classes_replaces_the_head_and_only_the_head(
    published: LoopbackHub, resnet18: nn.Module
) -> None:
    torch.manual_seed(0)
    model = zoo.create("resnet18", pretrained=True, num_classes=10)
    assert logits(model).shape == (2, 10)
    report = model.load_report
    assert set(report.reinitialised) == {"encoder.fc.weight", "encoder.fc.bias"}
    assert "10 classes" in report.reinitialised["encoder.fc.weight"]
    assert torch.equal(model.encoder.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)
    weight = model.encoder.fc.weight
    assert weight.isfinite().all()
    assert 0 < weight.std() < 1
    assert model.label_space is None
    assert model.config.num_classes == 10


def test_features_only_gives_the_same_maps_from_the_same_file(published: LoopbackHub, resnet18: nn.Module) -> None:
    backbone = zoo.create("resnet18", pretrained=True, features_only=True)
    assert (backbone.channels, backbone.strides) == ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32))
    with torch.inference_mode():
        maps = backbone(IMAGES)
        expected = resnet18.forward_intermediates(IMAGES, intermediates_only=True)
    for mine, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert set(backbone.load_report.skipped) == {"fc.weight", "fc.bias"}


def test_out_indices_choose_maps_and_may_count_from_the_end() -> None:
    backbone = zoo.create_backbone("resnet18", out_indices=(-2, -1))
    assert backbone.strides == (16, 32)
    with pytest.warns(SpellingWarning, match="out_indices"):
        assert zoo.create_backbone("resnet18", output_indices=(2, 3, 4)).strides == (8, 16, 32)
    with pytest.raises(zoo.OptionError, match="5 maps"):
        zoo.create_backbone("resnet18", out_indices=(9,))
    with pytest.raises(zoo.OptionError, match="features_only=True"):
        zoo.create("resnet18", out_indices=(1,))


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_any_number_of_image_channels_with_the_first_convolution_adapted(published: LoopbackHub, channels: int) -> None:
    model = zoo.create("resnet18", pretrained=True, in_chans=channels)
    reference = timm.create_model("resnet18", in_chans=channels)
    assert logits(model, torch.rand(1, channels, 64, 64)).shape == (1, 1000)
    assert model.encoder.conv1.weight.shape == reference.conv1.weight.shape
    assert "encoder.conv1.weight" in model.load_report.adapted
    assert len(model.input_spec.mean) == channels


def test_grey_images_see_the_sum_of_the_first_convolutions_channels(
    published: LoopbackHub, resnet18: nn.Module
) -> None:
    model = zoo.create("resnet18", pretrained=True, in_chans=1)
    torch.testing.assert_close(model.encoder.conv1.weight, resnet18.conv1.weight.sum(dim=1, keepdim=True))


def test_another_image_size_changes_the_preprocessing(published: LoopbackHub) -> None:
    model = zoo.create("resnet18", pretrained=True, img_size=(160, 128))
    assert model.input_spec.size == (160, 128)
    [result] = model.predict(Image.new("RGB", (300, 200), "red"))
    assert len(result.top) == 5


def test_dtype_and_device_apply_to_parameters_and_buffers(published: LoopbackHub) -> None:
    model = zoo.create("resnet18", pretrained=True, dtype="bfloat16", device="cpu")
    kinds = {tensor.dtype for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()}
    assert kinds == {torch.bfloat16}
    assert logits(model, IMAGES.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(zoo.OptionError, match="no dtype"):
        zoo.create("resnet18", dtype="float99")


def test_training_a_mapped_model_in_place_never_touches_the_stored_file(published: LoopbackHub) -> None:
    model = zoo.create("resnet18", pretrained=True).train()
    before = model.encoder.conv1.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(IMAGES, torch.tensor([1, 2]))["loss"].backward()
    optimizer.step()
    assert not torch.equal(model.encoder.conv1.weight, before)
    again = zoo.create("resnet18", pretrained=True)
    assert torch.equal(again.encoder.conv1.weight, before)


def test_a_file_of_another_structure_is_refused_before_its_body_is_fetched(hub: LoopbackHub) -> None:
    state = {name: tensor.contiguous() for name, tensor in timm.create_model("resnet34").state_dict().items()}
    hub.add("timm/resnet18.a1_in1k", "model.safetensors", save(state))
    with pytest.raises(zoo.LoadError, match="unexpected"):
        zoo.create("resnet18", pretrained=True)
    assert hub.body_bytes < 1_000_000
    assert not any(files for _, _, files in os.walk(os.path.join(os.environ["ZOO_HOME"], "blobs")))


def test_a_file_of_the_callers_needs_its_format_and_its_classes(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet18", num_classes=7).eval()
    save_file(theirs.state_dict(), tmp_path / "mine.safetensors")
    path = str(tmp_path / "mine.safetensors")
    model = zoo.create("resnet18", checkpoint=f"file://{path}", format="timm", num_classes=7)
    torch.testing.assert_close(logits(model), logits(theirs), atol=1e-5, rtol=0)
    assert model.load_report.reinitialised == {}
    same = zoo.create("resnet18", checkpoint=tmp_path / "mine.safetensors", format="timm", num_classes=7)
    assert torch.equal(logits(same), logits(model))
    with pytest.raises(zoo.LoadError, match="num_classes"):
        zoo.create("resnet18", checkpoint=path, format="timm")
    with pytest.raises(zoo.LoadError, match="missing"):
        zoo.create("resnet18", checkpoint=path, num_classes=7)
    with pytest.raises(zoo.OptionError, match="native, timm"):
        zoo.create("resnet18", checkpoint=path, format="tim", num_classes=7)


def test_a_misspelt_option_is_refused_before_the_family_is_imported() -> None:
    code = (
        "import sys, zoo\n"
        "try: zoo.create('resnet18', clases=5)\n"
        "except zoo.OptionError as error: print(error.fix)\n"
        "print('zoo_cnn.resnet' in sys.modules, 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["num_classes=…", "False False"]


def test_spellings_of_other_zoos_are_understood() -> None:
    with pytest.warns(SpellingWarning, match="num_classes"):
        assert zoo.create("resnet18", classes=5).config.num_classes == 5
    with pytest.warns(SpellingWarning, match="in_chans"):
        assert zoo.create("resnet18", in_channels=1).config.in_chans == 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: zoo.create("resnt18"), zoo.NotFoundError, "resnet18"),
        (lambda: zoo.create("resnet18.a9_in1k", pretrained=True), zoo.NotFoundError, "a1_in1k"),
        (lambda: zoo.create("resnet18", checkpoint="a9_in1k"), zoo.NotFoundError, "a1_in1k"),
        (lambda: zoo.create("resnet 18"), zoo.RefError, r"\^"),
        (lambda: zoo.create("resnet18@7"), zoo.NotFoundError, "1"),
        (lambda: zoo.create("lcnet_035", pretrained=True), zoo.NotFoundError, "checkpoint="),
        (lambda: zoo.create("resnet18", format="timm"), zoo.OptionError, "checkpoint="),
        (lambda: zoo.create("resnet18", neck="fpn"), zoo.OptionError, "neck"),
        (lambda: zoo.create("resnet18", depth=19), zoo.OptionError, "depth"),
        (lambda: zoo.create("resnet18.fb_ssl_yfcc100m_ft_in1k", pretrained=True), zoo.LicenseError, "allow_licenses"),
    ],
)
def test_every_wrong_request_says_what_to_type(call: Any, error: type[zoo.ZooError], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_an_accepted_licence_lets_the_weights_through(hub: LoopbackHub, resnet18: nn.Module) -> None:
    hub.add("timm/resnet18.fb_ssl_yfcc100m_ft_in1k", "model.safetensors", save(resnet18.state_dict()))
    model = zoo.create("resnet18.fb_ssl_yfcc100m_ft_in1k", pretrained=True, allow_licenses=["CC-BY-NC-4.0"])
    assert model.provenance.license == "CC-BY-NC-4.0"


def test_offline_says_what_is_missing(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(zoo.OfflineError, match="resnet18"):
        zoo.create("resnet18", pretrained=True)
    assert hub.seen == []


def test_a_file_that_is_not_there_is_named_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*given: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr("zoo.build.create.construct", build)
    for weights in (tmp_path / "missing.pth", f"file://{tmp_path}/missing.pth"):
        with pytest.raises(zoo.SourceError, match=r"missing\.pth: there is no such file") as error:
            zoo.create("resnet18", checkpoint=weights)
        assert error.value.asked == str(tmp_path / "missing.pth")


def test_a_model_composed_by_names_trains_and_predicts() -> None:
    model = zoo.create_model(backbone="resnet18", head="classifier", config={"num_classes": 10})
    out = model(IMAGES, torch.tensor([1, 2]))
    assert out["logits"].shape == (2, 10)
    assert out["embeddings"].shape == (2, 512)
    out["loss"].backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert any(p.grad is not None for p in model.backbone.parameters())


def test_parts_may_be_modules_or_mappings(published: LoopbackHub, resnet18: nn.Module) -> None:
    head = zoo.ClassificationHead(num_classes=4)
    model = zoo.create_model("classifier", backbone={"name": "resnet18", "pretrained": True}, head=head)
    assert model.head is head
    assert torch.equal(model.backbone.encoder.conv1.weight, resnet18.conv1.weight)
    assert logits(model).shape == (2, 4)
    with pytest.raises(zoo.OptionError, match="not a backbone"):
        zoo.create_model(backbone=nn.Conv2d(3, 8, 3), num_classes=3)
    with pytest.raises(zoo.OptionError, match="given in `config` and beside it"):
        zoo.create_model(backbone="resnet18", config={"num_classes": 3}, num_classes=4)


class HeadOfNothing(zoo.ClassificationHead):
    """Made for an architecture that there is not."""

    architecture = "nothing/at_all"


def test_a_head_says_what_is_composed_of_it_unless_the_caller_does() -> None:
    head = HeadOfNothing(num_classes=4)
    with pytest.raises(zoo.ZooError) as error:
        zoo.create_model(backbone="resnet18", head=head)
    assert "nothing/at_all" in str(error.value)
    assert zoo.create_model("classifier", backbone="resnet18", head=head).num_classes == 4


def test_a_head_has_the_classes_that_are_asked_for() -> None:
    parts = zoo.ClassificationHead(num_classes=4), {"name": "classifier", "num_classes": 4}
    for head in parts:
        model = zoo.create_model(backbone="resnet18", head=head)
        assert model.num_classes == model.config.num_classes == 4
    for head in (zoo.ClassificationHead(num_classes=4), parts[1]):
        with pytest.raises(zoo.OptionError, match="the head has 4 classes, and 5 are asked for"):
            zoo.create_model(backbone="resnet18", head=head, num_classes=5)


def test_a_head_without_a_place_is_told_where_it_has_one() -> None:
    with pytest.raises(zoo.OptionError, match="no option `head`: it is made with its own") as error:
        zoo.create("resnet18", head=zoo.ClassificationHead(num_classes=4))
    assert 'zoo.create_model("classifier"' in str(error.value.fix)


def test_forward_compiles_without_graph_breaks() -> None:
    model = zoo.create("resnet18").eval()
    explained = torch._dynamo.explain(model)(IMAGES)
    assert explained.graph_break_count == 0
    torch._dynamo.reset()


def test_provenance_travels_with_a_saved_model(published: LoopbackHub, tmp_path: Path) -> None:
    model = zoo.create("resnet18", pretrained=True)
    model.save_pretrained(tmp_path / "saved")
    header = (tmp_path / "saved" / "model.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["provenance"])["ref"] == "cnn/resnet18.a1_in1k@1"


# What a review found; each of these was wrong once.


def test_a_composed_model_keeps_the_preprocessing_of_its_backbone() -> None:
    model = zoo.create_model(backbone="timm/vit_tiny_patch16_384", num_classes=3)
    assert model.input_spec.size == (384, 384)
    assert model.input_spec.mean == (0.5, 0.5, 0.5)
    [result] = model.predict(Image.new("RGB", (90, 60), "red"))
    assert len(result.top) == 3
    grey = zoo.create_model(backbone=zoo.create_backbone("resnet18", in_chans=1), num_classes=3)
    assert len(grey.predict(Image.new("L", (90, 60)))) == 1


@pytest.mark.parametrize("change", ["reset", "assign", "create"])
def test_a_new_head_leaves_the_old_names_behind_and_predicts(published: LoopbackHub, change: str) -> None:
    model = zoo.create("resnet18", pretrained=True, **({"num_classes": 10} if change == "create" else {}))
    if change == "reset":
        model.reset_head(10)
    elif change == "assign":
        model.head = nn.Linear(512, 10)
    [result] = model.predict(Image.new("RGB", (90, 60), "red"), topk=0)
    assert sorted(result.names) == sorted(f"class {i}" for i in range(10))


def test_untrained_classes_have_no_names() -> None:
    assert zoo.create("resnet18", num_classes=1000).label_space is None
    assert zoo.create("resnet18").label_space is None


def test_provenance_names_what_was_really_loaded(published: LoopbackHub, tmp_path: Path, resnet18: nn.Module) -> None:
    published.add("timm/resnet18.a2_in1k", "model.safetensors", save(resnet18.state_dict()))
    assert zoo.create("resnet18", checkpoint="a2_in1k").provenance.ref == "cnn/resnet18.a2_in1k@1"
    save_file(resnet18.state_dict(), tmp_path / "own.safetensors")
    own = zoo.create("resnet18", checkpoint=tmp_path / "own.safetensors", format="timm")
    assert own.provenance.ref == "cnn/resnet18@1"


def test_a_folder_is_opened_by_the_weights_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet18: nn.Module
) -> None:
    for name in ("mine", "pickled", "empty"):
        (tmp_path / name).mkdir()
    save_file(resnet18.state_dict(), tmp_path / "mine" / "model.safetensors")
    torch.save(resnet18.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    for folder in (tmp_path / "mine", str(tmp_path / "pickled") + "/", (tmp_path / "mine").as_uri()):
        model = zoo.create("resnet18", checkpoint=folder, format="timm")
        assert torch.equal(model.encoder.conv1.weight, resnet18.conv1.weight)
    with pytest.raises(zoo.SourceError, match="is a folder"):
        zoo.create("resnet18", checkpoint=tmp_path / "empty", format="timm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.NotFoundError) as caught:
        zoo.create("resnet18", checkpoint="mine")
    assert "./mine" in caught.value.fix


def test_the_folder_of_a_run_leads_to_its_newest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = zoo.create("resnet18", num_classes=2)
    for epoch in (0, 1):
        zoo.save_checkpoint(model, epoch=epoch, path="run")
    for folder in ("run", "./run", tmp_path / "run"):
        with pytest.raises(zoo.ZooError) as caught:
            zoo.create("resnet18", num_classes=2, checkpoint=folder)
        path = caught.value.fix.removeprefix('checkpoint="').removesuffix('"')
        assert os.path.samefile(path, tmp_path / "run" / "epoch-0001")
        assert zoo.create("resnet18", num_classes=2, checkpoint=path).load_report.ok
    for ref in (str(tmp_path / "run" / "epoch-0001"), "run/epoch-0001", "./run"):
        with pytest.raises(zoo.RefError) as caught:
            zoo.create(ref)
        address = caught.value.fix.removeprefix('zoo.create("').removesuffix('")')
        assert zoo.create(address).config.num_classes == 2
    (tmp_path / "cnn" / "resnet181").mkdir(parents=True)
    with pytest.raises(zoo.NotFoundError) as caught:
        zoo.create("cnn/resnet181")
    assert caught.value.fix == 'zoo.create("file://cnn/resnet181")'


@pytest.mark.parametrize("checkpoint", [{"weight": torch.ones(1)}, 3, b"own.pth"], ids=["a state dict", "3", "bytes"])
def test_a_checkpoint_is_a_name_a_path_or_an_address(checkpoint: Any) -> None:
    with pytest.raises(zoo.OptionError, match="a name, a path or an address") as caught:
        zoo.create("resnet18", checkpoint=checkpoint)
    assert ("load_state_dict" in caught.value.fix) == isinstance(checkpoint, dict)


def test_averaged_weights_behind_a_wrapper_are_loaded_and_the_report_says_so(tmp_path: Path) -> None:
    """What torchvision's reference script writes."""
    model = zoo.create("resnet18", num_classes=2)
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    with torch.no_grad():
        averaged.module.encoder.conv1.weight.add_(1)
    path = tmp_path / "model_9.pth"
    torch.save({"model": model.state_dict(), "model_ema": averaged.state_dict(), "epoch": 9}, path)
    again = zoo.create("resnet18", num_classes=2, checkpoint=path)
    assert torch.equal(again.encoder.conv1.weight, model.encoder.conv1.weight + 1)
    assert (again.load_report.inside, again.load_report.prefix) == ("model_ema", "module.")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"checkpoint": "a1_in1k", "format": "nonsense"}, "file of your own"),
        ({"pretrained": "a1_in1k"}, "True or False"),
        ({"features_only": True, "num_classes": 7}, "no classes"),
        ({"device": "cuda:77"}, "cuda|CUDA"),
        ({"dtype": "int8"}, "floating-point"),
        ({"img_size": 0}, "image_size"),
        ({"img_size": 10**6}, "image_size"),
    ],
)
def test_no_argument_is_ignored_or_fails_raw(options: dict[str, Any], says: str) -> None:
    with pytest.raises(zoo.OptionError, match=says):
        zoo.create("resnet18", **options)


def test_two_checkpoints_in_one_request_are_a_contradiction() -> None:
    with pytest.raises(zoo.OptionError, match="name it once"):
        zoo.create("resnet18.a2_in1k", checkpoint="a1_in1k")


def test_a_typo_in_a_part_is_refused() -> None:
    with pytest.raises(zoo.OptionError, match="did you mean `num_classes`"):
        zoo.create_model(backbone="resnet18", head={"name": "classifier", "num_clases": 5})
    with pytest.raises(zoo.OptionError, match="did you mean `in_chans`"):
        zoo.create_model(backbone={"name": "resnet18", "in_chan": 5})


def test_a_relative_file_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet18: nn.Module) -> None:
    save_file(resnet18.state_dict(), tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    assert zoo.create("resnet18", checkpoint="own.safetensors", format="timm").load_report.ok


def test_a_composed_model_has_the_identity_of_its_backbones_weights(published: LoopbackHub, tmp_path: Path) -> None:
    model = zoo.create_model(backbone={"name": "resnet18", "pretrained": True}, num_classes=3)
    assert model.provenance.ref == "cnn/resnet18.a1_in1k@1"
    with pytest.raises(zoo.NotFoundError, match="pretrained"):
        zoo.create_model(backbone="resnet18", pretrained=True)
    model.save_pretrained(tmp_path / "saved")
    asked = len(published.seen)
    again = zoo.create(f"file://{tmp_path / 'saved'}")
    assert len(published.seen) == asked
    assert again.provenance.ref == "cnn/resnet18.a1_in1k@1"
