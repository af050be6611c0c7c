"""A slide in small, and beside it the same with a dot for each cell, coloured by its type."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

SIDE_PX = 700  # of the longer side, at least
PALE = 0.35
GAP_PX, LEGEND_PX, FONT_PX = 12, 26, 15
GREY = "grey"


def slide_map(
    image: np.ndarray, factor: tuple[float, float], xy: np.ndarray, types: Sequence[str], palette: Mapping[str, str]
) -> Image.Image:
    """Draw the map of a slide.

    Parameters
    ----------
    image
        uint8 (h, w, 3), the slide in small.
    factor
        Full-size px to a pixel of it, rows and columns.
    xy
        (n, 2) cells in H&E px, pixel centres at integers.
    types
        (n,) type of each; one that the palette lacks is grey.
    palette
        Colour of each type, in the order of the legend.
    """
    height, width = image.shape[:2]
    scale = max(1, round(SIDE_PX / max(height, width)))
    small = Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    dots = np.asarray(small).astype(np.float32)
    dots = (255 - (255 - dots) * PALE).astype(np.uint8)
    colours = {
        name: np.array([round(255 * part) for part in to_rgb(value)], np.uint8) for name, value in palette.items()
    }
    grey = np.array([round(255 * part) for part in to_rgb(GREY)], np.uint8)
    reach = max(1, scale // 4)
    rows, columns = (np.floor((xy[:, k] + 0.5) * scale / factor[1 - k]).astype(int) for k in (1, 0))
    for row, column, name in zip(rows, columns, types, strict=True):
        dots[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = colours.get(
            name, grey
        )
    shown = {name: value for name, value in palette.items() if name in set(types)}
    gap = np.full((len(dots), GAP_PX, 3), 255, np.uint8)
    page = np.concatenate([np.asarray(small), gap, dots], axis=1)
    return _with_legend(page, shown)


def _with_legend(page: np.ndarray, palette: Mapping[str, str]) -> Image.Image:
    """Put a line (or more) of colours and names below a picture."""
    font = ImageFont.load_default(FONT_PX)
    places, x, line = [], 0, 0
    for name in palette:
        needed = LEGEND_PX + int(font.getlength(name)) + 2 * GAP_PX
        if x and x + needed > page.shape[1]:
            x, line = 0, line + 1
        places.append((x, line))
        x += needed
    out = Image.new("RGB", (page.shape[1], page.shape[0] + GAP_PX + LEGEND_PX * (line + 1)), "white")
    out.paste(Image.fromarray(page))
    pen = ImageDraw.Draw(out)
    for (left, number), (name, colour) in zip(places, palette.items(), strict=True):
        top = page.shape[0] + GAP_PX + LEGEND_PX * number
        fill = tuple(round(255 * part) for part in to_rgb(colour))
        pen.rectangle((left, top + 3, left + FONT_PX, top + 3 + FONT_PX), fill=fill, outline="grey")
        pen.text((left + LEGEND_PX, top), name, fill="black", font=font)
    return out
