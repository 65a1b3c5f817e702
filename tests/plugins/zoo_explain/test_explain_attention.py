"""Attention: the weights are those the layers used, and the rollout is the paper's product."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo.models.preprocessing import Frame
from zoo_explain import attention_rollout, plot_attention_maps, visualize_feature_maps
from zoo_explain.heat import HeatMap
from zoo_explain.pictures import attentions_of, reading_of, rollout_heat
from zoo_vit import Hiera, Swin, VisionTransformer


def weights(*layers: list[list[float]]) -> list[Tensor]:
    """Layers (1, 1, N, N) of one head each."""
    return [torch.tensor(layer)[None, None] for layer in layers]


# A class token and two patches.
FIRST = [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
SECOND = [[0.2, 0.4, 0.4], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_a_rollout_of_two_layers_is_the_product_worked_out_on_paper() -> None:
    # A = (W + 1) / 2: the class row of the second is (.6, .2, .2); the rows of the first are
    # (.5, .5, 0), (0, 1, 0), (.25, 0, .75). Their product: .6*.5 + .2*0 + .2*.25 = .35, .3 + .2 + 0 = .5, .15.
    found = attention_rollout(weights(FIRST, SECOND), grid=(1, 2))
    assert found.shape == (1, 1, 2)
    assert torch.allclose(found, torch.tensor([[[0.5, 0.15]]]))
    other_order = attention_rollout(weights(SECOND, FIRST), grid=(1, 2))
    assert not torch.allclose(other_order, found)


def test_without_a_class_token_every_patch_is_asked() -> None:
    # Mean over the rows of the product [[.35, .5, .15], [.125, .5, .375], [.375, .25, .375]] of all three.
    found = attention_rollout(weights(FIRST, SECOND), grid=(1, 3))
    assert torch.allclose(found, torch.tensor([[[0.85, 1.25, 0.9]]]) / 3)


def test_heads_are_fused_before_layers_are_multiplied() -> None:
    heads = [torch.cat((a, b), dim=1) for a, b in zip(weights(FIRST), weights(SECOND), strict=True)]
    mean = attention_rollout(heads, grid=(1, 2))
    assert torch.allclose(mean, torch.tensor([[[0.7, 0.2]]]) / 2)  # of (.1, .7, .2), half of it
    largest = attention_rollout(heads, grid=(1, 2), head_fusion="max")  # class row (.2, 1, .4) + 1 at its own
    assert torch.allclose(largest, torch.tensor([[[1.0, 0.4]]]) / 2.6)
    smallest = attention_rollout(heads, grid=(1, 2), head_fusion="min")  # (0, .4, 0)
    assert torch.allclose(smallest, torch.tensor([[[0.4, 0.0]]]) / 1.4)


def test_the_weakest_weights_are_discarded_and_rows_still_add_up() -> None:
    matrix = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.05, 0.55]]
    found = attention_rollout(weights(matrix), grid=(1, 2), discard_ratio=4 / 9)  # .05, .1, .1, .2 go
    assert torch.allclose(found, torch.tensor([[[0.3, 0.0]]]) / 1.8)


def test_a_square_is_found_beside_any_prefix() -> None:
    for prefix in (0, 1, 2, 5):
        count = 16 + prefix
        uniform = torch.full((2, 3, count, count), 1 / count)
        assert attention_rollout([uniform, uniform]).shape == (2, 4, 4)
    assert attention_rollout([torch.full((1, 1, 7, 7), 1 / 7)], grid=(2, 3)).shape == (1, 2, 3)


@pytest.fixture(scope="module")
def vit() -> Any:
    torch.manual_seed(0)
    model = VisionTransformer(image_size=64, width=24, depth=5, heads=3, num_classes=5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_weights_times_values_is_what_a_layer_goes_on_with(vit: Any, images: Tensor) -> None:
    seen: dict[str, list[Tensor]] = {"qkv": [], "proj": []}
    hooks = []
    for block in vit.encoder.blocks:
        hooks.append(block.attn.qkv.register_forward_hook(lambda m, args, out: seen["qkv"].append(out)))
        hooks.append(block.attn.proj.register_forward_hook(lambda m, args, out: seen["proj"].append(args[0])))
    with torch.no_grad():
        attentions = vit(images, output_attentions=True)["attentions"]
    for hook in hooks:
        hook.remove()
    assert [tuple(attention.shape) for attention in attentions] == [(2, 3, 17, 17)] * 5
    for attention, qkv, goes_on in zip(attentions, seen["qkv"], seen["proj"], strict=True):
        values = qkv.reshape(2, 17, 3, 3, 8)[:, :, 2].transpose(1, 2)  # (B, heads, N, width of a head)
        assert torch.allclose((attention @ values).transpose(1, 2).flatten(2), goes_on, atol=1e-5)
        assert attention.std() > 1e-3


def test_a_models_rollout_depends_on_the_picture(vit: Any, images: Tensor) -> None:
    with torch.no_grad():
        rollout = attention_rollout(vit(images, output_attentions=True)["attentions"])
    assert rollout.shape == (2, 4, 4)
    assert (rollout > 0).all()
    assert (rollout.sum((1, 2)) < 1).all()  # the class token keeps a part
    assert (rollout[0] - rollout[1]).abs().max() > 1e-3


def test_windows_and_nested_windows_are_refused() -> None:
    swin = Swin({"image_size": 64, "width": 12, "depths": (1, 1, 1, 1), "heads": (1, 2, 4, 4), "window_size": 4})
    hiera = Hiera({"width": 8, "depths": (1, 1, 1, 1), "image_size": 64})
    for model in (swin, hiera):
        with torch.no_grad():
            attentions = model(torch.rand(1, 3, 64, 64), output_attentions=True)["attentions"]
        with pytest.raises(zoo.UnsupportedError, match="do not all attend over the whole image"):
            attention_rollout(attentions)
        with pytest.raises(zoo.UnsupportedError, match="do not all attend over the whole image"):
            plot_attention_maps(attentions, num_layers=4)


def test_a_grid_that_is_no_square_is_asked_for_instead_of_guessed() -> None:
    layer = torch.full((1, 1, 281, 281), 1 / 281)  # a class token and 14 x 20 patches
    for call in (attention_rollout, lambda layers: plot_attention_maps(layers, 1)):
        with pytest.raises(zoo.OptionError, match="no square") as caught:
            call([layer])
        assert caught.value.fix == "grid=(rows, columns)"
    assert attention_rollout([layer], grid=(14, 20)).shape == (1, 14, 20)


def test_the_patches_rows_are_averaged_where_the_answer_is_their_mean() -> None:
    # Of the product [[.35, .5, .15], [.125, .5, .375], [.375, .25, .375]], the patches' rows alone.
    found = attention_rollout(weights(FIRST, SECOND), grid=(1, 2), read="mean")
    assert torch.allclose(found, torch.tensor([[[0.375, 0.375]]]))
    with pytest.raises(zoo.OptionError, match="class token"):
        attention_rollout(weights(FIRST, SECOND), grid=(1, 3), read="class")
    with pytest.raises(zoo.OptionError, match="class token"):
        attention_rollout(weights(FIRST), grid=(1, 2), read="first")  # type: ignore[arg-type]  # it is no word for it


@pytest.mark.parametrize(("name", "read"), [("token", "class"), ("avg", "mean")])
def test_a_model_is_asked_which_tokens_its_answer_is_read_off(
    vit: Any, images: Tensor, monkeypatch: pytest.MonkeyPatch, name: str, read: Any
) -> None:
    monkeypatch.setattr(vit.encoder, "global_pool", name)
    assert reading_of(vit, images) == read
    with torch.no_grad():
        expected = attention_rollout(attentions_of(vit, images), grid=(4, 4), read=read)
    frame = Frame(size=(64, 64), input_size=(64, 64), scale=(1.0, 1.0), offset=(0.0, 0.0))
    heat = rollout_heat(vit, images, frame).heat
    assert torch.equal(heat, HeatMap.from_cells(expected[0], frame, method="rollout").heat)


def test_options_out_of_range_are_refused() -> None:
    layers = weights(FIRST)
    with pytest.raises(zoo.OptionError, match="a share"):
        attention_rollout(layers, discard_ratio=1.0)
    with pytest.raises(zoo.OptionError, match="mean, max or min"):
        attention_rollout(layers, head_fusion="median")  # type: ignore[arg-type]  # it is the point of the test
    with pytest.raises(zoo.OptionError, match="2 x 2"):
        attention_rollout(layers, grid=(2, 2))
    for ratio in ("x", None):
        with pytest.raises(zoo.OptionError, match="a share"):
            attention_rollout(layers, discard_ratio=ratio)  # type: ignore[arg-type]  # it is no number
    for grid in (14, "x", (1, 1, 2), (1.0, 2.0)):
        with pytest.raises(zoo.OptionError, match="two whole numbers"):
            attention_rollout(layers, grid=grid)  # type: ignore[arg-type]  # it is no pair of whole numbers
    with pytest.raises(zoo.OptionError, match="nothing to plot"):
        plot_attention_maps(layers, 1.5)  # type: ignore[arg-type]  # it is no whole number
    with pytest.raises(zoo.InputError, match="of 2 images"):
        plot_attention_maps([torch.rand(2, 1, 4, 4)], images=torch.rand(1, 3, 8, 8))
    with pytest.raises(zoo.InputError, match="no attentions"):
        attention_rollout([])
    with pytest.raises(zoo.OptionError, match="nothing to plot"):
        plot_attention_maps(layers, 0)


# Pictures


def drawn(path: Path) -> np.ndarray:
    """The pixels of a written picture."""
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_class_tokens_attention_is_plotted_for_the_last_layers(vit: Any, images: Tensor, tmp_path: Path) -> None:
    with torch.no_grad():
        out = vit(images, output_attentions=True)
    figure = plot_attention_maps(out["attentions"], num_layers=4, path=tmp_path / "maps.png")
    assert [axes.get_title() for axes in figure.axes] == ["layer 1", "layer 2", "layer 3", "layer 4"] * 2
    for row in range(2):
        for column in range(4):
            shown = np.asarray(figure.axes[row * 4 + column].images[0].get_array())
            expected = out["attentions"][1 + column][row].mean(0)[0, 1:].reshape(4, 4)
            assert np.allclose(shown, expected)
    assert drawn(tmp_path / "maps.png").std() > 10
    with_images = plot_attention_maps(out["attentions"], 9, images=images)
    assert [axes.get_title() for axes in with_images.axes][:2] == ["image", "layer 0"]
    assert len(with_images.axes) == 2 * 6


def test_without_a_class_token_it_is_how_much_each_patch_is_attended_to() -> None:
    attention = torch.rand(1, 2, 16, 16).softmax(-1)
    (axes,) = plot_attention_maps([attention], 1).axes
    assert np.allclose(np.asarray(axes.images[0].get_array()), attention.mean((1, 2)).reshape(4, 4))


def test_the_strongest_channels_are_shown_first(tmp_path: Path) -> None:
    features = torch.rand(2, 9, 5, 7)
    for channel, factor in ((4, 100.0), (7, -50.0), (2, 10.0)):
        features[1, channel] *= factor
    figure = visualize_feature_maps(features, num_channels=3, index=1, path=tmp_path / "maps.pdf")
    assert [axes.get_title() for axes in figure.axes] == ["channel 4", "channel 7", "channel 2"]
    assert np.allclose(np.asarray(figure.axes[1].images[0].get_array()), features[1, 7])
    assert (tmp_path / "maps.pdf").read_bytes().startswith(b"%PDF")
    assert len(visualize_feature_maps(features).axes) == 9
    assert len(visualize_feature_maps(features[0], 4).axes) == 4
    visualize_feature_maps(features, path=tmp_path / "maps.png")
    assert drawn(tmp_path / "maps.png").std() > 10


def test_what_is_no_feature_map_is_refused(tmp_path: Path) -> None:
    features = torch.rand(2, 9, 5, 7)
    with pytest.raises(zoo.InputError, match="a feature map is") as caught:
        visualize_feature_maps([features])  # type: ignore[arg-type]  # the mistake that is easily made
    assert caught.value.fix == "visualize_feature_maps(features[-1])"
    with pytest.raises(zoo.InputError, match="no image 2"):
        visualize_feature_maps(features, index=2)
    with pytest.raises(zoo.OptionError, match="nothing to show"):
        visualize_feature_maps(features, 0)
    with pytest.raises(zoo.InputError, match="a feature map is"):
        visualize_feature_maps(torch.rand(1, 0, 3, 3))
    with pytest.raises(zoo.InputError, match=r"no figures are written as '\.doc'"):
        visualize_feature_maps(features, path=tmp_path / "maps.doc")
    with pytest.raises(zoo.InputError, match="cannot be written"):
        visualize_feature_maps(features, path=tmp_path / "none" / "maps.png")
    assert list(tmp_path.iterdir()) == []


def test_plotting_leaves_no_global_state() -> None:
    code = (
        "import sys, torch, zoo_explain\n"
        "zoo_explain.visualize_feature_maps(torch.rand(1, 2, 3, 3))\n"
        "zoo_explain.plot_attention_maps([torch.rand(1, 2, 4, 4)], 1)\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
