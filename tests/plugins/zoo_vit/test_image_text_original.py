"""The other published layouts of image towers: transformers' weights under the names that OpenAI, open_clip and
OpenGVLab gave them, transformers' outputs, every key accounted for, the way back exact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from image_text_reference import (
    DEPTH,
    OURS,
    PROJECTED,
    SIDES,
    WIDTH,
    assert_close,
    assert_same,
    clip,
    internvl,
    load,
    published,
    randomised,
    siglip,
)
from torch import Tensor, nn

import zoo
from zoo.checkpoints.writing import write_weights
from zoo_vit import CLIPImageEncoder, InternViT, SigLIPImageEncoder


def as_openai(file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole CLIP of transformers in OpenAI's names and shapes."""
    made: dict[str, Tensor] = {
        "logit_scale": file["logit_scale"],
        "token_embedding.weight": file["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": file["text_model.embeddings.position_embedding.weight"],
        "text_projection": file["text_projection.weight"].T,
        "visual.proj": file["visual_projection.weight"].T,
        "visual.class_embedding": file["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": file["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": file["vision_model.embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        made[f"visual.ln_pre.{kind}"] = file[f"vision_model.pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = file[f"vision_model.post_layernorm.{kind}"]
        made[f"ln_final.{kind}"] = file[f"text_model.final_layer_norm.{kind}"]
    for theirs, ours, depth in (("vision_model.", "visual.", DEPTH), ("text_model.", "", 2)):
        for block in range(depth):
            old, new = f"{theirs}encoder.layers.{block}.", f"{ours}transformer.resblocks.{block}."
            for kind in ("weight", "bias"):
                made[f"{new}ln_1.{kind}"] = file[f"{old}layer_norm1.{kind}"]
                made[f"{new}ln_2.{kind}"] = file[f"{old}layer_norm2.{kind}"]
                made[f"{new}attn.out_proj.{kind}"] = file[f"{old}self_attn.out_proj.{kind}"]
                made[f"{new}mlp.c_fc.{kind}"] = file[f"{old}mlp.fc1.{kind}"]
                made[f"{new}mlp.c_proj.{kind}"] = file[f"{old}mlp.fc2.{kind}"]
                parts = [file[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                made[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
    return made


SETTINGS = {"input_resolution": 32, "context_length": 9, "vocab_size": 50}


@pytest.mark.parametrize("side", SIDES)
def test_openais_own_layout_gives_the_same_coordinates(side: int) -> None:
    theirs = clip(side)
    file = as_openai(published(theirs))
    ours = CLIPImageEncoder(**OURS, image_size=side, num_classes=PROJECTED)
    report = load(ours, {**file, **{n: torch.tensor(v) for n, v in SETTINGS.items()}}, "original")
    mine = {name: tensor for name, tensor in file.items() if name.startswith("visual.")}
    assert report.skipped.keys() == (file.keys() - mine.keys()) | SETTINGS.keys()
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs.get_image_features(pixel_values=images).pooler_output
        assert_close(ours(images)["logits"], expected)
    assert_same(ours.key_maps()["original"].save(ours.state_dict()), mine)


def test_half_precision_files_of_openais_become_single_precision() -> None:
    file = {name: tensor.half() for name, tensor in as_openai(published(clip(32))).items()}
    ours = CLIPImageEncoder(**OURS, image_size=32, num_classes=PROJECTED)
    load(ours, file, "original")
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert torch.equal(ours.head.weight, file["visual.proj"].T.float())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_opens_as_its_state_dict_does(tmp_path: Path) -> None:
    """OpenAI's own files are such archives. Their tensors are read; their code is not."""
    file = as_openai(published(clip(32)))
    archive = tmp_path / "ViT-B-32.pt"
    torch.jit.save(torch.jit.script(_Tree(file)), archive)
    options = {**OURS, "img_size": 32, "num_classes": PROJECTED, "format": "original"}
    scripted = zoo.create("clip_b_32", checkpoint=archive, **options)
    assert torch.equal(scripted.head.weight, file["visual.proj"].T)
    state = torch.jit.load(archive).state_dict()
    assert state.keys() == file.keys()
    torch.save(state, tmp_path / "weights.pt")
    model = zoo.create("clip_b_32", checkpoint=tmp_path / "weights.pt", **options)
    theirs = scripted.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())


class _Tree(nn.Module):
    """Modules nested as the names of a state dict say."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for first in dict.fromkeys(name.partition(".")[0] for name in tensors):
            below = {n.partition(".")[2]: t for n, t in tensors.items() if n.partition(".")[0] == first}
            if "" in below:
                self.register_parameter(first, nn.Parameter(below[""]))
            else:
                self.add_module(first, _Tree(below))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_open_clips_siglip_is_timms_tower_beside_a_text_tower() -> None:
    ours = SigLIPImageEncoder(**OURS, image_size=32)
    trunk = {f"visual.trunk.{name}": tensor.clone() for name, tensor in randomised(ours.encoder).state_dict().items()}
    rest = {
        "logit_scale": torch.zeros(()),
        "logit_bias": torch.zeros(()),
        "text.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(72, 24),
        "text.token_embedding.weight": torch.zeros(50, 24),
        "text.positional_embedding": torch.zeros(9, 24),
        "text.ln_final.weight": torch.zeros(24),
        "text.text_projection.weight": torch.zeros(WIDTH, 24),
    }
    again = SigLIPImageEncoder(**OURS, image_size=32)
    report = load(again, {**trunk, **rest}, "open_clip")
    assert report.skipped.keys() == rest.keys()
    assert_same(again.state_dict(), ours.state_dict())
    assert_same(again.key_maps()["open_clip"].save(again.state_dict()), trunk)


def as_opengvlab(file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower of transformers in the names of OpenGVLab's own code."""
    swaps = {
        "embeddings.cls_token": "embeddings.class_embedding",
        "embeddings.position_embeddings": "embeddings.position_embedding",
        "embeddings.patch_embeddings.projection": "embeddings.patch_embedding",
        "encoder.layer.": "encoder.layers.",
        "attention.projection_layer": "attn.proj",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "lambda_": "ls",
    }
    made: dict[str, Tensor] = {}
    for name, tensor in file.items():
        if match := re.search(r"attention\.[kv]_proj", name):
            continue
        if match := re.search(r"attention\.q_proj", name):
            start, end = name[: match.start()], name[match.end() :]
            tensor = torch.cat([file[f"{start}attention.{part}_proj{end}"] for part in "qkv"])
            name = f"{start}attn.qkv{end}"
        for old, new in swaps.items():
            name = name.replace(old, new)
        made[name] = tensor
    return made


@pytest.mark.parametrize("beginning", ["vision_model.", ""])
def test_opengvlabs_own_layout_gives_the_same_tokens(beginning: str) -> None:
    """InternVL's files have `vision_model.` before the names, those of the encoder alone have not."""
    theirs = internvl(32).model.vision_tower
    tower = as_opengvlab(theirs.state_dict())
    assert "encoder.layers.0.ls1" in tower
    assert "encoder.layers.2.attn.qkv.bias" in tower
    rest = {"mlp1.0.weight": torch.zeros(4), "language_model.model.norm.weight": torch.zeros(4)} if beginning else {}
    ours = InternViT(**OURS, image_size=32)
    report = load(ours, {**{beginning + n: t for n, t in tower.items()}, **rest}, "original")
    assert report.skipped.keys() == rest.keys()
    images = torch.randn(2, 3, 48, 40)
    with torch.inference_mode():
        assert_close(ours.embed(images), theirs(images).last_hidden_state[:, 0])
    saved = ours.key_maps()["original"].save(ours.state_dict())
    assert_same(saved, {f"vision_model.{name}": tensor for name, tensor in tower.items()})


def test_a_file_for_smaller_images_serves_a_tower_for_larger_ones(tmp_path: Path) -> None:
    """Through the front door, for each family; the positions are timm's interpolation of the published ones."""
    files = {
        ("clip_b_32", "transformers"): published(clip(32)),
        ("clip_b_32", "original"): as_openai(published(clip(32))),
        ("siglip_b_16", "transformers"): published(siglip(32)),
        ("internvit_300m", "transformers"): published(internvl(32)),
    }
    for (name, format), file in files.items():
        path = tmp_path / f"{name}.safetensors"
        write_weights(path, {n: t.contiguous() for n, t in file.items()})
        head = {"num_classes": PROJECTED} if name == "clip_b_32" else {}
        options = {**OURS, "format": format, "img_size": 64, **head}
        model = zoo.create(name, checkpoint=path, **options)
        backbone = zoo.create(
            name, checkpoint=path, features_only=True, **{k: v for k, v in options.items() if k not in head}
        )
        prefix = 0 if name.startswith("siglip") else 1
        assert model.encoder.pos_embed.shape == (1, 64 + prefix, WIDTH)
        images = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            (maps,) = backbone(images)
            wanted = model(images, output_features=True)
        assert torch.equal(maps, wanted["features"][-1])
        assert_close(backbone.embed(images), wanted["embeddings"])
