"""HiViT against the paper, against another implementation's numbers, and against what its structure promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import zoo
from zoo.build.weights import load_weights
from zoo.errors import FormatError, InputError, LoadError, OptionError, UnsupportedError
from zoo.models.labels import LabelSpace
from zoo_vit.hivit import HiViT, relative_position_index

TINY: dict[str, Any] = {"width": 32, "depths": (1, 1, 2), "heads": 4, "image_size": 64, "num_classes": 5}

FILLED_LIKE_THE_REFERENCE = {"width": 32, "depths": (1, 1, 7), "heads": 4, "image_size": 48, "num_classes": 0}

# Mean, standard deviation and five values of the second image's map after each stage, computed with mmpretrain 1.2.0
# (Apache-2.0), models/backbones/hivit.py: arch={embed_dims: 32, depths: [1, 1, 7], num_heads: 4}, img_size=48,
# rpe=True, on the weights of `reference_weights` and the images of `reference_images`.
# fmt: off
REFERENCE = [
    (-0.23909582819, 1.80859077589, [-1.73430073, -4.58550978, -3.81016467, -0.41374835, 0.08766490]),
    (-0.38699841486, 1.24918731532, [-0.09541091, 0.39557827, -0.59769636, -0.95296562, -1.13130867]),
    (0.60052560878, 3.78698554679, [3.84431195, -4.93463182, -6.09243298, -1.14689767, 3.93315983]),
]
# fmt: on


def reference_weights(model: HiViT) -> dict[str, Tensor]:
    """Published names, mmpretrain's order of names, and numpy's generator, whose stream is fixed."""
    published = model.key_maps()["original"].save(model.state_dict())
    theirs = {name.replace("absolute_pos_embed", "pos_embed"): name for name in published if "fc_norm" not in name}
    rng, weights = np.random.RandomState(0), dict(published)
    for alias in sorted(theirs):
        name = theirs[alias]
        if not published[name].is_floating_point():
            continue
        values = torch.from_numpy(rng.standard_normal(tuple(published[name].shape))).float()
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            values = 1 + 0.2 * values
        elif values.ndim > 1 and "table" not in name and "pos_embed" not in name:
            values = values * values[0].numel() ** -0.5
        else:
            values = values * 0.3
        weights[name] = values
    return weights


def reference_images() -> Tensor:
    return torch.from_numpy(np.random.RandomState(1).standard_normal((2, 3, 48, 48))).float()


def tiny(**changes: Any) -> HiViT:
    torch.manual_seed(0)
    model = HiViT({**TINY, **changes}).eval()
    for parameter in model.parameters():  # at their initial 0 and 0.02, biases and tables hardly show
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "millions"), [("hivit_t", 19.2), ("hivit_s", 37.5), ("hivit_b", 66.4)])
def test_sizes_have_the_papers_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = zoo.create(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_stages_have_the_papers_shapes() -> None:
    with torch.device("meta"):
        model = zoo.create("hivit_b")
        outputs = model(torch.empty(2, 3, 224, 224), output_features=True, output_attentions=True)
        backbone = zoo.create("hivit_b", features_only=True, out_indices=(0, -1))
    shapes = [(2, 128, 56, 56), (2, 256, 28, 28), (2, 512, 14, 14)]
    assert [tuple(m.shape) for m in outputs["features"]] == shapes
    assert [tuple(a.shape) for a in outputs["attentions"]] == [(2, 8, 196, 196)] * 20
    assert (backbone.channels, backbone.strides) == ((128, 512), (4, 16))
    assert [tuple(m.shape) for m in backbone(torch.empty(2, 3, 224, 224, device="meta"))] == [shapes[0], shapes[2]]


def test_maps_equal_another_implementations() -> None:
    model = HiViT(FILLED_LIKE_THE_REFERENCE).eval()
    load_weights(model, reference_weights(model), format="original", source="test")
    with torch.inference_mode():
        maps = model(reference_images(), output_features=True)["features"]
    for found, (mean, std, values) in zip(maps, REFERENCE, strict=True):
        second = found[1].flatten()
        assert float(found.double().mean()) == pytest.approx(mean, abs=1e-5)
        assert float(found.double().std()) == pytest.approx(std, abs=1e-5)
        assert second[:: second.numel() // 5][:5].tolist() == pytest.approx(values, abs=1e-5)


def test_names_are_the_published_ones() -> None:
    names = set(tiny().key_maps()["original"].save(tiny().state_dict()))
    block = "norm1.W norm1.B attn.relative_position_bias_table attn.qkv.W attn.qkv.B attn.proj.W attn.proj.B "
    layers = "norm2.W norm2.B mlp.fc1.W mlp.fc1.B mlp.fc2.W mlp.fc2.B"
    parts = {0: layers, 1: layers, 2: "norm.W norm.B reduction.W", 3: layers, 4: layers}
    parts |= {5: parts[2], 6: block + layers, 7: block + layers}
    expected = [f"blocks.{i}.{name}" for i, text in parts.items() for name in text.split()]
    expected += ["absolute_pos_embed", "relative_position_index", "patch_embed.proj.W", "patch_embed.proj.B"]
    expected += ["patch_embed.norm.W", "patch_embed.norm.B", "fc_norm.W", "fc_norm.B", "head.W", "head.B"]
    assert names == {name.replace(".W", ".weight").replace(".B", ".bias") for name in expected}


@pytest.mark.parametrize("format", ["native", "original"])
def test_a_saved_file_opens_again(format: str) -> None:
    model, other = tiny(), tiny(num_classes=5)
    saved = model.key_maps()[format].save(model.state_dict())
    nn.init.zeros_(other.head.weight)
    report = load_weights(other, saved, format=format, source="test")
    assert len(report.loaded) == len(saved)
    batch = images(2, 3, 64, 64)
    assert torch.equal(model(batch)["logits"], other(batch)["logits"])


def test_supervised_files_have_the_offsets_in_every_block() -> None:
    model = tiny()
    saved = model.key_maps()["original"].save(model.state_dict())
    table = saved.pop("relative_position_index")
    saved |= {f"blocks.{i}.attn.relative_position_index": table for i in (6, 7)}
    report = load_weights(tiny(), saved, format="original", source="test")
    assert set(report.skipped) == {f"blocks.{i}.attn.relative_position_index" for i in (6, 7)}


def test_a_pretraining_file_opens_without_its_decoder(tmp_path: Path) -> None:
    """The authors' masked pre-training: no relative bias, no pooling norm, one norm over all stages, a decoder."""
    model = tiny(num_classes=0)
    pretrained = {
        name: tensor
        for name, tensor in model.key_maps()["original"].save(model.state_dict()).items()
        if "relative_position" not in name and not name.startswith("fc_norm")
    }
    pretrained |= {"norm.weight": torch.ones(224), "mask_token": torch.zeros(1, 1, 8)}
    pretrained |= {"decoder_blocks.0.attn.qkv.weight": torch.ones(24, 8), "decoder_pos_embed": torch.zeros(1, 16, 8)}
    torch.save({"model": pretrained}, tmp_path / "mae_hivit.pth")
    options = {name: value for name, value in TINY.items() if name != "image_size"} | {"num_classes": 0}
    path = f"file://{tmp_path}/mae_hivit.pth"
    opened = zoo.create("hivit_t", checkpoint=path, format="original", img_size=64, **options)
    skipped = {"norm.weight", "mask_token", "decoder_blocks.0.attn.qkv.weight", "decoder_pos_embed"}
    assert set(opened.load_report.skipped) == skipped
    for block in model.encoder.blocks[6:]:
        nn.init.zeros_(block.attn.relative_position_bias_table)
    nn.init.ones_(model.encoder.fc_norm.weight)
    nn.init.zeros_(model.encoder.fc_norm.bias)
    batch = images(2, 3, 64, 64)
    assert torch.equal(opened(batch)["embeddings"], model(batch)["embeddings"])


def test_weights_of_another_size_are_interpolated(tmp_path: Path) -> None:
    model = tiny()
    nn.init.constant_(model.encoder.absolute_pos_embed, 2.0)
    save_file(model.state_dict(), tmp_path / "hivit.safetensors")
    options = {name: value for name, value in TINY.items() if name != "image_size"}
    path = f"file://{tmp_path}/hivit.safetensors"
    wider = zoo.create("hivit_t", checkpoint=path, img_size=(48, 96), **options)
    assert wider.encoder.absolute_pos_embed.shape == (1, 18, 32)
    assert torch.allclose(wider.encoder.absolute_pos_embed, torch.tensor(2.0))
    table = wider.encoder.blocks[6].attn.relative_position_bias_table
    assert table.shape == (5 * 11, 4)
    before = model.encoder.blocks[6].attn.relative_position_bias_table
    assert torch.allclose(table[55 // 2], before[49 // 2], atol=1e-5)  # no offset is no offset at every size
    assert wider(images(1, 3, 48, 96))["logits"].isfinite().all()
    assert "encoder.absolute_pos_embed" in wider.load_report.adapted
    as_many = zoo.create("hivit_t", checkpoint=path, img_size=(32, 128), **options)  # 2 x 8 units for 4 x 4
    assert "encoder.absolute_pos_embed" in as_many.load_report.adapted
    save_file(wider.state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(FormatError, match="not square"):
        zoo.create("hivit_t", checkpoint=f"file://{tmp_path}/wide.safetensors", img_size=64, **options)


def test_weights_serve_other_channels_a_backbone_and_a_model_without_classes() -> None:
    model = tiny()
    saved = model.state_dict()
    grey = tiny(in_chans=1)
    load_weights(grey, saved, format="native", source="test")
    plane = images(1, 1, 64, 64)
    assert torch.allclose(grey(plane)["logits"], model(plane.expand(1, 3, 64, 64))["logits"], atol=1e-4)
    backbone = HiViT.as_backbone(model.config, out_indices=(2,)).eval()
    report = load_weights(backbone, saved, format="native", source="test")
    assert set(report.skipped) == {"head.weight", "head.bias"}
    batch = images(2, 3, 64, 64)
    assert torch.equal(backbone(batch)[0], model(batch, output_features=True)["features"][2])
    assert torch.equal(backbone.embed(batch), model.embed(batch))
    with pytest.raises(LoadError, match="head"):
        load_weights(tiny(), {n: t for n, t in saved.items() if "head" not in n}, format="native", source="test")


def test_every_patch_moves_the_logits() -> None:
    model, image = tiny(image_size=32), images(1, 3, 32, 32)
    moved = image.repeat(64, 1, 1, 1)
    for i in range(64):  # 8 x 8 patches of 4 pixels
        moved[i, :, i // 8 * 4 : i // 8 * 4 + 4, i % 8 * 4 : i % 8 * 4 + 4] += 1
    with torch.inference_mode():
        change = (model(moved)["logits"] - model(image)["logits"]).abs().amax(dim=1)
    assert change.min() > 1e-5


def test_maps_lie_where_the_image_does() -> None:
    model, batch = tiny(), images(1, 3, 64, 64)
    before = model(batch, output_features=True)["features"]
    batch[:, :, 36:40, 20:24] += 1  # one patch, in the unit of rows 32-47 and columns 16-31
    after = model(batch, output_features=True)["features"]
    moved = [(a - b).abs().amax(dim=(0, 1)) > 1e-6 for a, b in zip(after, before, strict=True)]
    assert moved[0].nonzero().tolist() == [[9, 5]]
    assert moved[1].nonzero().tolist() == [[4, 2]]
    assert moved[2].all()


def test_images_of_a_batch_do_not_see_each_other() -> None:
    model, batch = tiny(), images(3, 3, 64, 64)
    assert torch.allclose(model(batch)["logits"][1:2], model(batch[1:2])["logits"], atol=1e-5)


def test_hidden_units_are_never_looked_at() -> None:
    """What masked pre-training needs: the visible units' tokens, whatever the others hold, in the order asked for."""
    encoder, batch = tiny(image_size=(48, 64)).encoder, images(2, 3, 48, 64)
    visible = torch.tensor([[0, 5, 6, 11], [2, 3, 9, 4]])
    tokens = encoder(batch, visible)[-1]
    hidden = torch.ones(2, 1, 3, 4).flatten(2).scatter(2, visible[:, None], 0).unflatten(2, (3, 4))
    noisy = batch + hidden.repeat_interleave(16, 2).repeat_interleave(16, 3) * images(2, 3, 48, 64)
    assert torch.equal(encoder(noisy, visible)[-1], tokens)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(encoder(batch, visible[:, order])[-1], tokens[:, order], atol=1e-5)
    everything = torch.arange(12).expand(2, 12)
    assert torch.allclose(encoder(batch, everything)[-1], encoder(batch)[-1], atol=1e-5)
    assert not torch.allclose(encoder(batch)[-1].gather(1, visible[:, :, None].expand(-1, -1, 32)), tokens, atol=1e-3)


def test_offsets_are_numbered_row_by_row() -> None:
    index = relative_position_index(2, 3)
    assert index.shape == (6, 6)
    assert index.unique().numel() == 3 * 5
    assert index[5, 0] == 14  # two right, one down of the first
    assert index[0, 5] == 0
    assert index.diagonal().tolist() == [7] * 6


def test_attention_weights_are_of_units_with_their_bias() -> None:
    model, batch = tiny(), images(1, 3, 64, 64)
    table = model.encoder.blocks[6].attn.relative_position_bias_table
    nn.init.constant_(table, -1e4)
    table.data[(3 + 1) * 7 + 3] = 0  # only the unit right above is attended
    weights = model(batch, output_attentions=True)["attentions"][0]
    above = weights[0, 0, 4:, :12].diagonal()
    assert torch.allclose(above, torch.ones(12))


@pytest.mark.long
def test_one_program_without_breaks_and_an_exported_one_compute_the_same() -> None:
    model, batch = tiny(), images(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(batch)["logits"], model(batch)["logits"])
    exported = torch.export.export(model, (batch,))
    assert torch.allclose(exported.module()(batch)["logits"], model(batch)["logits"], atol=1e-5)


def test_memory_order_does_not_matter() -> None:
    model, batch = tiny(), images(2, 3, 64, 64)
    channels_last = batch.to(memory_format=torch.channels_last)
    assert torch.allclose(model(channels_last)["logits"], model(batch)["logits"], atol=1e-5)


def test_heads_can_be_replaced() -> None:
    model, batch = tiny(), images(2, 3, 64, 64)
    embeddings, model.label_space = model.embed(batch), LabelSpace(name="five", names=("a", "b", "c", "d", "e"))
    model.head = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 3))
    assert (model.num_classes, model(batch)["logits"].shape) == (3, (2, 3))
    assert model.label_space is None
    model.reset_head(7)
    assert model(batch)["logits"].shape == (2, 7)
    model.reset_head(0)
    assert "logits" not in model(batch)
    assert torch.equal(model(batch)["embeddings"], embeddings)
    with pytest.raises(UnsupportedError, match="no loss"):
        model(batch, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="32 values"):
        model.head = nn.Linear(31, 3)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (None, "found: NoneType"),
        (lambda embeddings: embeddings, "found: function"),
        (nn.Linear(32, 3, dtype=torch.float64), "torch.float32"),
        (nn.Linear(32, 3).half(), "torch.float32"),
        (nn.LSTM(32, 3), "torch.float32"),
    ],
)
def test_what_is_no_head_is_refused_and_changes_nothing(head: Any, message: str) -> None:
    model, batch = tiny(), images(2, 3, 64, 64)
    logits = model(batch)["logits"]
    with pytest.raises(InputError) as error:
        model.head = head
    assert message in str(error.value)
    with pytest.raises(OptionError, match="num_classes"):
        model.reset_head(-1)
    assert torch.equal(model(batch)["logits"], logits)


def test_wrong_sizes_are_refused_with_what_would_fit() -> None:
    with pytest.raises(OptionError, match="224, 240"):
        HiViT(image_size=(224, 226))
    with pytest.raises(OptionError, match="heads"):
        HiViT({**TINY, "heads": 5})
    with pytest.raises(InputError, match="64 x 64"):
        tiny()(images(1, 3, 80, 80))


@pytest.mark.parametrize("indices", [(3,), (2, 0), (1, 1), (1, -2), ()])
def test_maps_are_chosen_once_and_fine_to_coarse(indices: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="HiViT gives 3 maps"):
        HiViT.as_backbone(tiny().config, out_indices=indices)


def test_stochastic_depth_grows_with_depth() -> None:
    rates = [block.drop_path.drop_prob for block in tiny(drop_path_rate=0.5).encoder.blocks if hasattr(block, "mlp")]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_it_learns_two_textures() -> None:
    torch.manual_seed(0)
    model = HiViT({**TINY, "num_classes": 2, "image_size": 32}).train()
    stripes = torch.linspace(0, 40, 32).sin().expand(8, 3, 32, 32)
    batch = torch.cat([stripes, stripes.transpose(2, 3)]) + 0.1 * images(16, 3, 32, 32)
    targets = torch.arange(2).repeat_interleave(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        loss = model(batch, targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert loss < 0.1
