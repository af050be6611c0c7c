"""The pixels of an H&E image, opened lazily."""

from pathlib import Path

import dask.array as da
import numpy as np
import tifffile

from shest.core.errors import InputError, one_line

CHUNKS = (3, 512, 512)
AGAIN = "Export or copy the image again"


def read_he(path: str | Path, number: int = 0, level: int = 0) -> da.Array:
    """Open an H&E TIFF lazily, tile by tile, as (3, height, width) uint8.

    Parameters
    ----------
    number
        Of the image (series) in the file.
    level
        Of its pyramid; 0 is the full size.

    Raises
    ------
    InputError
        The file is missing, no TIFF, no 8-bit RGB image, ends before its last tile, or a tile cannot be decoded.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[number]
            axes, dtype, shape = series.axes, series.dtype, series.levels[level].shape
            _check_extent(path, series)
        pixels = da.from_zarr(tifffile.imread(path, aszarr=True, series=number, level=level))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            path, "the H&E image is not there", "Put it beside the bundle's files or name it in the sheet's he_image"
        ) from None
    except Exception as error:
        raise InputError(path, f"no TIFF that can be read ({one_line(error)})", AGAIN) from None
    colour = axes[-1] if axes.endswith(("S", "C")) else axes[0]
    if len(axes) != 3 or colour not in "SC" or dtype != np.uint8:
        raise InputError(
            path,
            f"axes {axes}, type {dtype}, shape {shape}: no 8-bit RGB image",
            "Export the H&E as 8-bit RGB OME-TIFF",
        )
    if axes.endswith(colour):
        pixels = da.moveaxis(pixels, -1, 0)
    if pixels.shape[0] not in (3, 4):
        raise InputError(path, f"{pixels.shape[0]} channels", "Export the H&E as 8-bit RGB OME-TIFF")
    try_tile(path, pixels)
    return pixels[:3].rechunk(CHUNKS)


def _check_extent(path: str | Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse a file that ends before its last tile."""
    page = series.levels[0].keyframe
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    size = Path(path).stat().st_size
    if end > size:
        raise InputError(path, f"truncated: its last tile ends at byte {end:,} of {size:,}", "Copy the file again")


def try_tile(path: str | Path, pixels: da.Array) -> None:
    """Refuse an image whose middle tile cannot be decoded: another codec, or a broken file."""
    _, y, x = (n // 2 for n in pixels.shape)
    try:
        pixels[:, y : y + 1, x : x + 1].compute(scheduler="synchronous")
    except Exception as error:
        raise InputError(path, f"its middle tile cannot be decoded ({one_line(error)})", AGAIN) from None
