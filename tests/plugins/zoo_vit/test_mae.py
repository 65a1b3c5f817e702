"""Masked autoencoders: what is hidden stays hidden, what is published opens, and real photographs are learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from skimage import data
from torch import Tensor

import zoo
from zoo.build.weights import load_weights
from zoo.errors import FormatError, InputError, LoadError, OptionError
from zoo_vit import MaskedAutoencoder
from zoo_vit.mae import mask_patches, patchify, sincos_positions, unpatchify

TINY: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "width": 48, "depth": 2, "heads": 4,
    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 4,
}  # fmt: skip


def tiny(**changes: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder({**TINY, **changes}).eval()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def hidden_pixels(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    return unpatchify(mask[:, :, None].expand(-1, -1, 3 * 8 * 8), grid, 3)


@pytest.mark.parametrize(("name", "millions"), [("mae_b", 111.9), ("mae_l", 329.5), ("mae_h", 657.1)])
def test_sizes_have_metas_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = zoo.create(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_three_quarters_of_each_image_are_hidden_anew() -> None:
    model = tiny().train()
    first, second = model(images(4, 3, 32, 32)), model(images(4, 3, 32, 32))
    assert first["mask"].sum(dim=1).tolist() == [12] * 4
    assert len({tuple(row) for row in torch.cat([first["mask"], second["mask"]]).tolist()}) > 4
    assert first["reconstruction"].shape == (4, 16, 3 * 8 * 8)


def test_patches_with_the_smallest_noise_stay() -> None:
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.2, 0.7, 0.3, 0.8, 0.6]])
    masking = mask_patches(noise, 0.75)
    assert masking.visible.tolist() == [[1, 3]]
    assert masking.hidden.tolist() == [[True, False, True, False, True, True, True, True]]
    assert noise.sort().values.gather(1, masking.restore).tolist() == noise.tolist()


def test_hidden_pixels_are_not_seen_and_visible_ones_are() -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    before = model(batch, noise=noise)
    hidden = hidden_pixels(before["mask"], model.grid)
    changed = model(batch + hidden, noise=noise)
    assert torch.equal(changed["reconstruction"], before["reconstruction"])
    assert not torch.equal(changed["loss"], before["loss"])
    assert not torch.allclose(model(batch + 1 - hidden, noise=noise)["reconstruction"], before["reconstruction"])


def test_every_hidden_place_gets_its_own_answer() -> None:
    """The mask token is one and the same: only the decoder's positions tell the places apart."""
    model, batch = tiny(), images(1, 3, 32, 32)
    outputs = model(batch)
    answers = outputs["reconstruction"][0][outputs["mask"][0] > 0]
    assert torch.pdist(answers).min() > 1e-3


def test_the_loss_is_of_hidden_patches_only() -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    outputs = model(batch, noise=noise)
    hidden = hidden_pixels(outputs["mask"], model.grid)
    painted = unpatchify(outputs["reconstruction"], model.grid, 3)
    expected = (hidden * (painted - batch) ** 2).sum() / hidden.sum()
    assert outputs["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_another_image_can_be_the_target() -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    painted = unpatchify(model(batch, noise=noise)["reconstruction"], model.grid, 3)
    assert model(batch, painted, noise=noise)["loss"].item() < 1e-10
    with pytest.raises(InputError, match="like the input"):
        model(batch, torch.tensor([0, 1]))


def test_normalised_patches_have_mean_zero_and_deviation_one() -> None:
    model, batch, noise = tiny(norm_pixel_loss=True), 5 + 3 * images(2, 3, 32, 32), torch.rand(2, 16)
    with torch.no_grad():
        model.decoder.pred.weight.zero_()
    loss = model(batch, noise=noise)["loss"].item()
    assert loss == pytest.approx(191 / 192, rel=1e-4)  # the variance of a patch, by 192 and not by 191
    painted = model.reconstruct(batch, noise=noise)
    patches, mask = patchify(painted, 8), model(batch, noise=noise)["mask"]
    truth = patchify(batch, 8).mean(dim=2, keepdim=True).expand_as(patches)
    assert torch.allclose(patches[mask > 0], truth[mask > 0], atol=1e-4)


def test_reconstruction_keeps_what_was_visible() -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    outputs, painted = model(batch, noise=noise), model.reconstruct(batch, noise=noise)
    hidden = hidden_pixels(outputs["mask"], model.grid) > 0
    assert torch.equal(painted[~hidden], batch[~hidden])
    assert torch.equal(painted[hidden], unpatchify(outputs["reconstruction"], model.grid, 3)[hidden])


def test_cutting_and_joining_patches_of_any_channels_is_exact() -> None:
    batch = images(2, 5, 16, 24)
    patches = patchify(batch, 8)
    assert patches.shape == (2, 6, 320)
    assert torch.equal(patches[0, 4, :5], batch[0, :, 8, 8])  # second row of patches, second column, first pixel
    assert torch.equal(unpatchify(patches, (2, 3), 5), batch)
    assert tiny(in_chans=5).reconstruct(images(2, 5, 32, 32)).shape == (2, 5, 32, 32)


def test_positions_tell_every_place_of_a_wide_image() -> None:
    positions = sincos_positions((3, 5), 32)
    assert positions.shape == (1, 16, 32)
    assert torch.pdist(positions[0]).min() > 0.1
    plane = positions[0, 1:].unflatten(0, (3, 5))
    assert torch.equal(plane[:, :, :16], plane[:1, :, :16].expand(3, -1, -1))  # the first half says the column
    assert torch.equal(plane[:, :, 16:], plane[:, :1, 16:].expand(-1, 5, -1))


def test_names_are_metas() -> None:
    names = set(tiny().key_maps()["original"].save(tiny().state_dict()))
    block = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    layers = ["patch_embed.proj", "norm", "decoder_embed", "decoder_norm", "decoder_pred"]
    layers += [f"blocks.{i}.{name}" for i in range(2) for name in block]
    layers += [f"decoder_blocks.0.{name}" for name in block]
    single = {"cls_token", "pos_embed", "mask_token", "decoder_pos_embed"}
    assert names == single | {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    with torch.device("meta"):
        large = zoo.create("mae_l")
    assert len(large.key_maps()["original"].save(large.state_dict())) == 398  # as in the published file


@pytest.mark.parametrize("format", ["native", "original", "transformers"])
def test_a_saved_file_opens_again(format: str, tmp_path: Path) -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    with torch.no_grad():
        model.encoder.pos_embed.add_(0.1)
    torch.save({"model": model.key_maps()[format].save(model.state_dict())}, tmp_path / "mae.pth")
    options = {name: value for name, value in TINY.items() if name != "image_size"}
    opened = zoo.create("mae_b", checkpoint=f"file://{tmp_path}/mae.pth", format=format, img_size=32, **options)
    assert torch.equal(opened(batch, noise=noise)["reconstruction"], model(batch, noise=noise)["reconstruction"])
    assert not opened.encoder.pos_embed.requires_grad
    assert not opened.decoder.pos_embed.requires_grad


def test_a_trained_encoder_is_a_vision_transformer(tmp_path: Path) -> None:
    model, batch = tiny(), images(2, 3, 32, 32)
    save_file(model.encoder_state_dict(), tmp_path / "my_mae.safetensors")
    trunk = {name: TINY[name] for name in ("patch_size", "width", "depth", "heads")}
    path = f"file://{tmp_path}/my_mae.safetensors"
    encoder = zoo.create("vit_b_16", checkpoint=path, num_classes=0, img_size=32, **trunk)
    assert torch.allclose(encoder(batch)["embeddings"], model.embed(batch), atol=1e-6)


def test_weights_of_another_size_have_their_positions_interpolated() -> None:
    model = tiny()
    for sides in ((24, 48), (16, 64)):  # the second has as many patches as the file
        wide = tiny(image_size=sides)
        report = load_weights(wide, model.key_maps()["original"].save(model.state_dict()), format="original", source="")
        assert set(report.adapted) == {"encoder.pos_embed", "decoder.pos_embed"}
        assert torch.equal(wide.encoder.pos_embed[:, 0], model.encoder.pos_embed[:, 0])
        assert wide(images(1, 3, *wide.input_spec.size))["loss"].isfinite()
        assert not load_weights(tiny(image_size=sides), wide.state_dict(), format="native", source="").adapted
    with pytest.raises(FormatError, match="not square"):
        load_weights(tiny(), tiny(image_size=(24, 48)).state_dict(), format="native", source="")


def test_a_file_without_decoder_is_refused() -> None:
    with pytest.raises(LoadError, match="missing"):
        load_weights(tiny(), tiny().encoder_state_dict(), format="native", source="")


def test_wrong_sizes_are_refused_with_what_would_fit() -> None:
    with pytest.raises(OptionError, match="32, 32"):
        tiny(image_size=(33, 32))
    with pytest.raises(OptionError, match="decoder_heads"):
        tiny(decoder_heads=5)
    with pytest.raises(OptionError, match="no patch of 16 stays visible"):
        tiny(mask_ratio=0.99)
    with pytest.raises(InputError, match="32 x 32"):
        tiny()(images(1, 3, 64, 64))
    with pytest.raises(InputError, match="one number a patch"):
        tiny()(images(1, 3, 32, 32), noise=torch.rand(1, 17))


@pytest.mark.long
def test_one_program_without_breaks_computes_the_same() -> None:
    model, batch, noise = tiny(), images(2, 3, 32, 32), torch.rand(2, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(batch, noise=noise)["loss"], model(batch, noise=noise)["loss"])


def photographs() -> Tensor:
    """Crops of 32 x 32 pixels of three photographs, 64 in all, in the values a network is given."""
    generator, batch = torch.Generator().manual_seed(0), []
    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        image = torch.from_numpy(photo[::3, ::3].copy()).permute(2, 0, 1).float() / 127.5 - 1
        for _ in range(21):
            top, left = (int(torch.randint(side - 32, (), generator=generator)) for side in image.shape[1:])
            batch.append(image[:, top : top + 32, left : left + 32])
    return torch.stack(batch)


def test_it_learns_to_paint_real_photographs() -> None:
    torch.manual_seed(0)
    model, batch = tiny().train(), photographs()
    positions = model.encoder.pos_embed.clone()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    assert losses[-1] < 0.8 * float(batch.var())  # better than painting everything in the average colour
    assert torch.equal(model.encoder.pos_embed, positions)
    untrained = [name for name, p in model.named_parameters() if p.grad is None]
    assert untrained == ["encoder.pos_embed", "decoder.pos_embed"]
