"""Sharded weights from end to end: written, opened from a folder and the Hub, and shared with transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import zoo
from loopback_hub import LoopbackHub
from zoo.checkpoints.headers import read_header

INDEX = "model.safetensors.index.json"


OPTIONS = {"img_size": 32, "depth": 2, "width": 32, "heads": 2, "mlp_ratio": 2.0, "num_classes": 4, "norm_eps": 1e-12}


def small(checkpoint: Path | str | None = None, **more: Any) -> Any:
    """A small vision transformer."""
    return zoo.create("vit_tiny_patch16_224", **OPTIONS, checkpoint=checkpoint, **more)


def same(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_model_is_saved_in_shards_and_comes_back(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert len(files) > 4
    assert {"config.json", INDEX} < set(files)
    assert "model.safetensors" not in files
    headers = [read_header(str(path)) for path in (tmp_path / "saved").glob("*.safetensors")]
    assert all(len(h.spans) == 1 or max(end for _, end in h.spans.values()) <= 20_000 for h in headers)
    same(zoo.create(f"file://{tmp_path}/saved"), model)
    same(type(model).from_pretrained(tmp_path / "saved"), model)
    opened = small(tmp_path / "saved")
    same(opened, model)
    assert opened.provenance.source.endswith(INDEX)


def test_every_shard_says_where_it_is_from(tmp_path: Path) -> None:
    model = small()
    model.provenance = zoo.Provenance(ref="acme/vit", license="MIT")
    model.save_pretrained(tmp_path / "saved", max_shard_size=20_000)
    shards = sorted((tmp_path / "saved").glob("*.safetensors"))
    for shard in shards:
        assert zoo.Provenance.from_json(read_header(str(shard)).metadata["provenance"]) == model.provenance
    again = zoo.create(f"file://{tmp_path}/saved")
    assert (again.provenance.ref, again.provenance.license) == ("acme/vit", "MIT")
    own = small(tmp_path / "saved")
    assert own.provenance.license == "MIT"


def test_a_sharded_hub_repository_is_a_saved_folder(hub: LoopbackHub, tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path / "saved", max_shard_size="30KB")
    for path in sorted((tmp_path / "saved").iterdir()):
        hub.add("acme/vit", path.name, path.read_bytes(), lfs=path.suffix == ".safetensors")
    again = zoo.create("hf://acme/vit", allow_licenses="unknown")
    same(again, model)
    assert again.provenance.source.startswith("hf://acme/vit@")
    requests = len(hub.seen)
    same(small(f"hf://acme/vit/{INDEX}", allow_licenses="unknown"), model)
    assert not [seen for seen in hub.seen[requests:] if seen.method == "GET" and "model-0" in seen.path]


@pytest.mark.parametrize("size", ["5", "GB", "-5GB", "5 XB", 0, -1, 2.5, True, "9" * 400 + "GB"])
def test_what_is_no_size_is_refused_before_anything_is_written(tmp_path: Path, size: object) -> None:
    with pytest.raises(zoo.OptionError, match="not a size"):
        small().save_pretrained(tmp_path / "saved", max_shard_size=size)
    assert not (tmp_path / "saved").exists()


def reference() -> nn.Module:
    """The same architecture in transformers."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16,
        num_labels=4,
    )  # fmt: skip
    model: nn.Module = transformers.ViTForImageClassification(config).eval()
    return model


def test_transformers_opens_the_shards_we_write(tmp_path: Path) -> None:
    model, theirs = small().eval(), reference()
    model.save_pretrained(tmp_path / "ours", format="transformers", max_shard_size="20KB")
    theirs.config.save_pretrained(tmp_path / "config")
    saved = json.loads((tmp_path / "config" / "config.json").read_text())
    (tmp_path / "ours" / "config.json").write_text(json.dumps(saved))
    again, told = transformers.ViTForImageClassification.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(images)["logits"], again.eval()(images).logits, atol=1e-5, rtol=1e-4)


def test_we_open_the_shards_transformers_writes(tmp_path: Path) -> None:
    theirs = reference()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 2
    model = small(tmp_path / "theirs", format="transformers")
    assert model.load_report.ok
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(images)["logits"], theirs(images).logits, atol=1e-5, rtol=1e-4)
