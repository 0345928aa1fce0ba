"""Where an image lies in the square that a backbone sees, and the way back from there to its own pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def square_shape(shape: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Height and width that an image would have with square pixels of the smaller side of its own.

    Args:
        shape: (H, W). aspect: height of a pixel over its width.
    """
    height, width = shape
    return max(height, round(height * aspect)), max(width, round(width / aspect))


def placement(shape: tuple[int, int], size: int, resize: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of an image after resizing, and the row and column of its corner in the square.

    Sides and borders are rounded as transformers' image processors round them; the corner lies outside of the square
    (is negative) where `resize` is crop.

    Args:
        shape: (H, W). size: side of the square. resize: pad, crop or squash, see `pixels.fit`.
    """
    height, width = shape
    if resize == "squash":
        return (size, size), (0, 0)
    if resize == "pad":
        scale = min(size / height, size / width)
        new = (max(1, int(height * scale)), max(1, int(width * scale)))
        return new, ((size - new[0] + 1) // 2, (size - new[1] + 1) // 2)
    new = (int(size * height / min(height, width)), int(size * width / min(height, width)))
    return new, (-((new[0] - size) // 2), -((new[1] - size) // 2))


def to_original(
    grid: NDArray[np.floating], shape: tuple[int, int], size: int, resize: str, aspect: float = 1.0,
    covered: float | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Values of a grid of patches as a map float32 [.., H, W] in the pixels of the original image, bilinear.

    Pixels that the square does not show (`crop`) are NaN.

    Args:
        grid: [.., g, g], one value for each square of covered / g pixels; slices are mapped one by one.
        shape, size, resize: as for `placement`. aspect: as for `square_shape`, what `fit` was given.
        covered: pixels of the square's side that the patches lie on, from its top left; None is all.
    """
    from scipy.ndimage import map_coordinates

    if grid.ndim > 2:
        return np.stack([to_original(one, shape, size, resize, aspect, covered) for one in grid])
    new, corner = placement(square_shape(shape, aspect), size, resize)
    axes, shown = [], []
    for side, length, start, patches in zip(shape, new, corner, grid.shape, strict=True):
        place = (np.arange(side) + 0.5) * length / side + start
        shown.append((place >= 0) & (place <= size))
        axes.append(place * patches / (covered or size) - 0.5)
    rows, columns = np.meshgrid(*axes, indexing="ij")
    # Beyond the middle of the outermost patch its value holds on.
    values: NDArray[np.float32] = map_coordinates(grid.astype(np.float32), [rows, columns], order=1, mode="nearest")
    values[~(shown[0][:, None] & shown[1][None, :])] = np.nan
    return values
