"""Image towers in the layout of transformers: its own outputs, from its own names, every key accounted for, the way
back exact."""

from __future__ import annotations

import pytest
import torch
from image_text_reference import (
    CLIP_TOWER,
    DEPTH,
    INTERN_TOWER,
    OURS,
    PROJECTED,
    SIDES,
    SIGLIP_TOWER,
    assert_close,
    assert_same,
    clip,
    epsilons,
    internvl,
    load,
    published,
    randomised,
    siglip,
    template,
    transformers,
)

from zoo.errors import FormatError, LoadError
from zoo_vit import CLIPImageEncoder, InternViT, SigLIPImageEncoder


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_whole_clip_of_transformers_gives_its_image_coordinates(side: int, activation: str) -> None:
    theirs = clip(side, activation)
    file = published(theirs)
    assert template(file, "vision_model.") == CLIP_TOWER
    ours = CLIPImageEncoder(**OURS, image_size=side, num_classes=PROJECTED, activation=activation)
    # Older files also number their positions.
    report = load(ours, {**file, "vision_model.embeddings.position_ids": torch.arange(17)[None]}, "transformers")
    assert epsilons(ours) == epsilons(theirs.vision_model)
    mine = {n: t for n, t in file.items() if n.startswith("vision_model.") or n == "visual_projection.weight"}
    assert report.skipped.keys() == (file.keys() - mine.keys()) | {"vision_model.embeddings.position_ids"}
    assert "text tower" in report.skipped["text_projection.weight"]
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        outputs = ours(images, output_attentions=True)
        pooled = theirs.vision_model(images, output_attentions=True)
        projected = theirs.get_image_features(pixel_values=images).pooler_output
    assert_close(outputs["embeddings"], pooled.pooler_output)
    assert_close(outputs["logits"], projected)
    assert len(outputs["attentions"]) == len(pooled.attentions) == DEPTH
    for found, wanted in zip(outputs["attentions"], pooled.attentions, strict=True):
        assert_close(found, wanted)
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), mine)


@pytest.mark.parametrize("beginning", ["vision_model.", ""])
def test_a_clip_vision_model_without_projection_is_a_tower_without_logits(beginning: str) -> None:
    """Files have `vision_model.` before every name; transformers 5 saves a model made anew without it."""
    whole = clip(32)
    theirs = transformers.CLIPVisionModel(whole.config.vision_config).eval()
    theirs.load_state_dict(whole.vision_model.state_dict())
    bare = theirs.state_dict()
    assert set(bare) == set(whole.vision_model.state_dict())
    ours = CLIPImageEncoder(**OURS, image_size=32, num_classes=0)
    report = load(ours, {beginning + name: tensor for name, tensor in bare.items()}, "transformers")
    assert not report.skipped
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        outputs, expected = ours(images), theirs(images).pooler_output
    assert "logits" not in outputs
    assert_close(outputs["embeddings"], expected)
    saved = ours.key_maps()["transformers"].save(ours.state_dict())
    assert_same(saved, {f"vision_model.{name}": tensor for name, tensor in bare.items()})


def test_a_clip_vision_model_with_projection_comes_and_goes_whole() -> None:
    whole = clip(32)
    theirs = randomised(transformers.CLIPVisionModelWithProjection(whole.config.vision_config))
    file = published(theirs)
    ours = CLIPImageEncoder(**OURS, image_size=32, num_classes=theirs.config.projection_dim)
    assert not load(ours, file, "transformers").skipped
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert_close(ours(images)["logits"], theirs(images).image_embeds)
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), file)


def test_a_projection_is_missed_where_a_file_has_none() -> None:
    bare = clip(32).vision_model.state_dict()
    with pytest.raises(LoadError) as raised:
        load(CLIPImageEncoder(**OURS, image_size=32, num_classes=PROJECTED), bare, "transformers")
    assert raised.value.report.missing == ("encoder.head.weight", "encoder.head.bias")


def test_a_trained_bias_is_not_lost_in_a_format_that_has_none() -> None:
    ours = CLIPImageEncoder(**OURS, image_size=32, num_classes=5)
    ours.head.bias.data.fill_(0.5)
    for format in ("transformers", "original"):
        with pytest.raises(FormatError, match="no bias"):
            ours.key_maps()[format].save(ours.state_dict())
    ours.head.bias.data.zero_()
    assert "visual.proj" in ours.key_maps()["original"].save(ours.state_dict())


@pytest.mark.parametrize("side", SIDES)
def test_a_whole_siglip_of_transformers_gives_its_image_coordinates(side: int) -> None:
    theirs = siglip(side)
    file = published(theirs)
    assert template(file, "vision_model.") == SIGLIP_TOWER
    ours = SigLIPImageEncoder(**OURS, image_size=side)
    report = load(ours, file, "transformers")
    mine = {name: tensor for name, tensor in file.items() if name.startswith("vision_model.")}
    assert epsilons(ours) == epsilons(theirs.vision_model)
    assert report.skipped.keys() == file.keys() - mine.keys() >= {"logit_scale", "logit_bias"}
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        outputs = ours(images, output_features=True, output_attentions=True)
        expected = theirs.vision_model(images, output_attentions=True)
        normed = ours.encoder.norm(outputs["features"][-1].flatten(2).transpose(1, 2))
    assert_close(outputs["embeddings"], expected.pooler_output)
    assert_close(normed, expected.last_hidden_state)
    assert len(outputs["attentions"]) == DEPTH  # the pooling's attention is none of the blocks'
    for found, wanted in zip(outputs["attentions"], expected.attentions, strict=True):
        assert_close(found, wanted)
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), mine)


@pytest.mark.parametrize("beginning", ["vision_model.", ""])
def test_a_siglip_vision_model_is_the_same_tower(beginning: str) -> None:
    whole = siglip(32)
    bare = whole.vision_model.state_dict()
    assert set(transformers.SiglipVisionModel(whole.config.vision_config).state_dict()) == set(bare)
    ours = SigLIPImageEncoder(**OURS, image_size=32)
    assert not load(ours, {beginning + name: tensor for name, tensor in bare.items()}, "transformers").skipped
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert_close(ours.embed(images), whole.vision_model(images).pooler_output)


@pytest.mark.parametrize("side", SIDES)
def test_a_whole_internvl_of_transformers_gives_its_tokens_at_any_size(side: int) -> None:
    theirs = internvl(side)
    file = published(theirs)
    assert template(file, "vision_tower.") == INTERN_TOWER
    ours = InternViT(**OURS, image_size=side)
    report = load(ours, file, "transformers")
    mine = {name: tensor for name, tensor in file.items() if name.startswith("vision_tower.")}
    assert epsilons(ours) == epsilons(theirs.model.vision_tower)
    assert report.skipped.keys() == file.keys() - mine.keys()
    assert {name.partition(".")[0] for name in report.skipped} == {"language_model", "multi_modal_projector"}
    for height, width in ((side, side), (side + 16, side), (side - 8, side + 8)):  # a grid of other or as many patches
        images = torch.randn(2, 3, height, width)
        with torch.inference_mode():
            outputs = ours(images, output_features=True)
            tokens = theirs.model.vision_tower(images).last_hidden_state
        assert_close(outputs["embeddings"], tokens[:, 0])
        assert_close(outputs["features"][-1].flatten(2).transpose(1, 2), tokens[:, 1:])
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), mine)
