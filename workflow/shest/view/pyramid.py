"""The H&E as a deep-zoom pyramid: JPEG tiles, made tile by tile."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

TILE = 512
QUALITY = 85
THUMBNAIL_PX = 320


@dataclass
class Pyramid:
    """Levels of an image, the smallest first.

    Attributes
    ----------
    width, height
        Of the finest level, px.
    factor
        Full-size pixels per pixel of the finest level.
    levels
        Of each: ``columns``, ``rows`` and ``names``, row by row, one string.
    thumbnail
        JPEG of the whole.
    """

    width: int
    height: int
    factor: float
    levels: list[dict[str, Any]] = field(default_factory=list)
    thumbnail: bytes = b""


def halvings(mpp: float, max_mpp: float) -> int:
    """Return how often an image can be halved before its pixels are larger than ``max_mpp`` µm."""
    return max(int(np.floor(np.log2(max_mpp / mpp) + 1e-9)), 0)


def source_of(scales: Sequence[Any], times: int) -> tuple[Any, int]:
    """Return the smallest stored scale that is halved at most ``times`` times, and how often it still has to be.

    Parameters
    ----------
    scales
        Arrays (3, height, width), full size first.
    """
    ratios = [int(np.round(np.log2(scales[0].shape[2] / scale.shape[2]))) for scale in scales]
    fitting = [(ratio, scale) for ratio, scale in zip(ratios, scales, strict=True) if ratio <= times]
    ratio, scale = max(fitting, key=lambda pair: pair[0])
    return scale, times - ratio


def finest_tiles(scales: Sequence[Any], mpp: float, max_mpp: float) -> int:
    """Return how many tiles the finest level has; as :func:`build` takes its arguments."""
    image, left = source_of(scales, halvings(mpp, max_mpp))
    height, width = (-(-side // (TILE * 2**left)) for side in image.shape[1:])
    return height * width


def build(
    scales: Sequence[Any], mpp: float, max_mpp: float, add: Callable[[str], str], advance: Callable[[int], None]
) -> Pyramid:
    """Cut an image into tiles of :data:`TILE` px and hand each, as base64 of a JPEG, to ``add``, which names it.

    Four tiles are shrunk to one of the next level as soon as they are made: memory does not grow with the image.

    Parameters
    ----------
    scales
        The image, arrays (3, height, width) uint8, full size first.
    mpp, max_mpp
        µm per px of the image; it is halved while that stays at or below ``max_mpp``.
    advance
        Called with 1 for each tile of the finest level.
    """
    times = halvings(mpp, max_mpp)
    image, left = source_of(scales, times)
    height, width = (-(-side // 2**left) for side in image.shape[1:])
    depth = max(int(np.ceil(np.log2(max(width, height) / TILE))), 0)
    levels: list[dict[str, Any]] = []
    for level in range(depth + 1):
        columns, rows = (-(-side // (TILE * 2 ** (depth - level))) for side in (width, height))
        levels.append({"columns": columns, "rows": rows, "names": [""] * (columns * rows)})
    full = scales[0].shape[2]
    made = Pyramid(width, height, full / image.shape[2] * 2**left, levels)

    def read(row: int, column: int) -> Image.Image:
        side = TILE * 2**left
        part = np.asarray(image[:, row * side : (row + 1) * side, column * side : (column + 1) * side])
        tile = Image.fromarray(np.ascontiguousarray(np.moveaxis(part, 0, -1)))
        return tile.reduce(2**left) if left else tile

    def make(level: int, row: int, column: int) -> Image.Image | None:
        """Encode a tile and all below it; return its pixels."""
        if row >= levels[level]["rows"] or column >= levels[level]["columns"]:
            return None
        if level == depth:
            tile = read(row, column)
            advance(1)
        else:
            tile = joined([make(level + 1, 2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)])
        levels[level]["names"][row * levels[level]["columns"] + column] = add(encoded(tile))
        return tile

    whole = make(0, 0, 0)
    whole.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    made.thumbnail = jpeg(whole)
    for level in levels:
        level["names"] = "".join(level["names"])
    return made


def joined(parts: list[Image.Image | None]) -> Image.Image:
    """Put four tiles (None where the image has ended) beside and below each other and halve them."""
    first, right, below, _ = parts
    size = (first.width + (right.width if right else 0), first.height + (below.height if below else 0))
    whole = Image.new("RGB", size)
    for number, part in enumerate(parts):
        if part:
            whole.paste(part, (number % 2 * TILE, number // 2 * TILE))
    return whole.reduce(2)


def jpeg(tile: Image.Image) -> bytes:
    """Encode a picture as JPEG."""
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def encoded(tile: Image.Image) -> str:
    """Return a tile as the base64 of its JPEG."""
    return base64.b64encode(jpeg(tile)).decode("ascii")
