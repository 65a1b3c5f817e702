"""Images as whole patches: what no patch covers, a model would never see."""

from __future__ import annotations

from zoo.errors import OptionError


def check_whole_patches(image_size: int | tuple[int, int], patch_size: int) -> None:
    """Raises `OptionError` with the nearest size that is whole patches where `image_size` is not."""
    sides = image_size if isinstance(image_size, tuple) else (image_size,)
    if all(side % patch_size == 0 for side in sides):
        return
    whole = tuple(max(1, round(side / patch_size)) * patch_size for side in sides)
    raise OptionError(
        f"an image is whole patches of {patch_size} pixels",
        asked=f"image_size={image_size}",
        fix=f"image_size={whole if len(whole) > 1 else whole[0]}",
    )
