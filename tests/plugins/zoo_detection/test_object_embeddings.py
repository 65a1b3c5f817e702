"""A vector an object is the mean of what a map says inside its box, of the map for its size."""

from __future__ import annotations

import torch

from zoo_detection.object_embeddings import object_embeddings

STRIDES = (4, 8, 16)


def levels(*widths: int) -> list[torch.Tensor]:
    """Maps for an image of 512 pixels; each says its level, and its second channel the column of its pixels."""
    maps = []
    for level, (stride, width) in enumerate(zip(STRIDES, widths, strict=True)):
        side = 512 // stride
        values = torch.full((2, width, side, side), float(level))
        values[:, 1] = torch.arange(side) * stride + stride / 2
        values[1] += 100
        maps.append(values)
    return maps


def test_a_box_looks_at_the_map_for_its_size_and_at_its_own_pixels() -> None:
    # As large as 224 pixels: stride 16. As 112: stride 8. Below 56, and far above 224, the finest and the coarsest.
    sides = (20, 60, 111, 113, 223, 225, 500)
    boxes = torch.tensor([[8.0, 8, 8 + s, 8 + s] for s in sides])[None].repeat(2, 1, 1)
    labels = torch.zeros(2, len(sides), dtype=torch.int64)
    vectors = object_embeddings(levels(3, 3, 3), STRIDES, boxes, labels)
    assert vectors.shape == (2, len(sides), 3)
    assert vectors[0, :, 0].round(decimals=3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert vectors[1, :, 2].round(decimals=3).tolist() == [100, 100, 100, 101, 101, 102, 102]
    middles = (boxes[0, :, 0] + boxes[0, :, 2]) / 2
    torch.testing.assert_close(vectors[0, :-1, 1], middles[:-1], atol=0.5, rtol=0)


def test_of_maps_of_unequal_channels_the_one_nearest_to_stride_16_is_looked_at() -> None:
    boxes = torch.tensor([[[10.0, 10, 20, 20]]]).repeat(2, 1, 1)
    vectors = object_embeddings(levels(3, 5, 4), STRIDES, boxes, torch.zeros(2, 1, dtype=torch.int64))
    assert vectors.shape == (2, 1, 4)
    assert vectors[0, 0, 0] == 2
    finer = object_embeddings(levels(3, 5, 4), (2, 12, 64), boxes, torch.zeros(2, 1, dtype=torch.int64))
    assert (finer.shape, float(finer[0, 0, 0])) == ((2, 1, 5), 1)


def test_a_box_that_is_not_a_number_is_looked_up_nowhere() -> None:
    boxes = torch.full((2, 1, 4), torch.nan)
    assert object_embeddings(levels(3, 3, 3), STRIDES, boxes, torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 1, 3)


def test_where_there_is_no_object_there_is_no_vector() -> None:
    boxes = torch.tensor([[[10.0, 10, 40, 40], [0, 0, 0, 0]]]).repeat(2, 1, 1)
    labels = torch.tensor([[3, -1], [-1, -1]])
    vectors = object_embeddings(levels(3, 3, 3), STRIDES, boxes, labels)
    assert vectors[0, 0].any()
    assert not vectors[0, 1].any()
    assert not vectors[1].any()
    assert object_embeddings(levels(3, 3, 3), STRIDES, boxes[:, :0], labels[:, :0]).shape == (2, 0, 3)
