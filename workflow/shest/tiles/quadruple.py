"""Quadruple tiles: what is stored of a cell, and the 224 × 224 image that is made of it when it is needed.

A tile shows the window around a nucleus, the same masked to the nucleus, and below these the haematoxylin image
of the window, and that masked. Stored are only the window in the image's own pixels and the mask's bits.

Both assemblers repeat, operation by operation, what torch's bilinear ``interpolate`` does on one CPU thread with
fused multiply-add: source index and each multiply-add rounded once, the four terms added in torch's order. (On
several threads torch itself adds them in another order, and some pixels come out one level apart; here the number
of threads changes nothing.)
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from shest.tiles.haematoxylin import BIN_BITS, tables
from shest.tiles.raster import ROW_BYTES, SIDE

if TYPE_CHECKING:
    import torch

VERSION = 2  # raise it whenever assembled tiles or their normalisation change

# all 8 pixels of a mask byte as 24 bytes of colour, 0 or 255
SPREAD_BITS = np.repeat(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), 3, axis=1) * np.uint8(255)


def window_shape(window_um: float, mpp_x: float, mpp_y: float) -> tuple[int, int]:
    """Return height and width, in px, of a window of ``window_um`` µm: the nearest whole number on each axis."""
    return math.floor(window_um / mpp_y + 0.5), math.floor(window_um / mpp_x + 0.5)


def window_origin(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y (int64) of the first pixel of the windows around centroids given in H&E px.

    Pixel centres are at integers: the middle of a window is its first pixel and half of one pixel fewer than its side.
    """
    x0 = np.floor(np.asarray(x, np.float64) - width / 2 + 1)
    y0 = np.floor(np.asarray(y, np.float64) - height / 2 + 1)
    return x0.astype(np.int64), y0.astype(np.int64)


class Axis(NamedTuple):
    """For each of the 112 pixels along an axis: its two source pixels (int64) and their weights (float32)."""

    first: np.ndarray
    second: np.ndarray
    weight_first: np.ndarray
    weight_second: np.ndarray


def axis(side: int) -> Axis:
    """Return source pixels and weights as torch has them, ``align_corners=False``, for ``side`` source pixels."""
    place = np.arange(SIDE)
    if side == SIDE:
        return Axis(place, place, np.ones(SIDE, np.float32), np.zeros(SIDE, np.float32))
    scale = np.float32(side) / np.float32(SIDE)
    # scale·(i + 0.5) − 0.5 as one fused operation: the float64 product of two float32 is exact
    source = (np.float64(scale) * (place + 0.5) - 0.5).astype(np.float32)
    source = np.maximum(source, np.float32(0))
    first = np.minimum(source.astype(np.int64), side - 1)
    second = np.minimum(first + 1, side - 1)
    weight = np.clip(source - first.astype(np.float32), np.float32(0), np.float32(1))
    return Axis(first, second, np.float32(1) - weight, weight)


@intrinsic
def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), code


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _spread(row, pixels, out):
    """Gather the pixels of an image row (w, 3) that the 112 target pixels need, as float32 (336,)."""
    for place in range(SIDE):
        pixel = row[pixels[place]]
        out[3 * place] = pixel[0]
        out[3 * place + 1] = pixel[1]
        out[3 * place + 2] = pixel[2]


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _blend(upper, lower, weights, up, down, out):
    """Blend two spread rows (2, 336) into one row of the tile, truncated to uint8, in torch's order of terms."""
    for i in range(3 * SIDE):
        value = (up * weights[1, i]) * upper[1, i]
        value = _fma(up * weights[0, i], upper[0, i], value)
        value = _fma(down * weights[0, i], lower[0, i], value)
        value = _fma(down * weights[1, i], lower[1, i], value)
        out[i] = np.uint8(np.int32(value))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _stain(row, density, first, steps, colours, out):
    """Turn a row of colours (336,) into its haematoxylin row (336,)."""
    for place in range(SIDE):
        i = 3 * place
        stain = density[0, row[i]] + density[1, row[i + 1]] + density[2, row[i + 2]]
        below = np.int64(first[stain >> BIN_BITS])
        below += np.int64(steps[below] < stain)
        below += np.int64(steps[below] < stain)
        out[i] = colours[below, 0]
        out[i + 1] = colours[below, 1]
        out[i + 2] = colours[below, 2]


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _keep(row, bits, spread_bits, out):
    """Copy a row of colours (336,) where the mask's bits are set; 0 elsewhere."""
    for i in range(3 * SIDE):
        out[i] = 0
    for byte in range(ROW_BYTES):
        if bits[byte] != 0:
            for i in range(24):
                out[24 * byte + i] = row[24 * byte + i] & spread_bits[bits[byte], i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _assemble(windows, masks, across, weights, down, parts, density, first, steps, colours, spread_bits, out):
    spread = np.zeros((2, 2, 3 * SIDE), np.float32)
    held = np.empty(2, np.int64)
    width = 3 * SIDE
    for cell in range(len(windows)):
        held[:] = -1
        for row in range(SIDE):
            for k in range(2):
                source = down[k, row]
                if held[source & 1] != source:
                    _spread(windows[cell, source], across[0], spread[source & 1, 0])
                    _spread(windows[cell, source], across[1], spread[source & 1, 1])
                    held[source & 1] = source
            bits = masks[cell, row * ROW_BYTES : (row + 1) * ROW_BYTES]
            image, stained = out[cell, row], out[cell, SIDE + row]
            upper, lower = spread[down[0, row] & 1], spread[down[1, row] & 1]
            _blend(upper, lower, weights, parts[0, row], parts[1, row], image[:width])
            _stain(image[:width], density, first, steps, colours, stained[:width])
            _keep(image[:width], bits, spread_bits, image[width:])
            _keep(stained[:width], bits, spread_bits, stained[width:])


def assemble(
    windows: np.ndarray, masks: np.ndarray, threads: int | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Make quadruple tiles on the CPU.

    Parameters
    ----------
    windows
        uint8 (n, h, w, 3), RGB windows at the image's own resolution.
    masks
        uint8 (n, 1568), packed masks.
    threads
        Threads to share the cells among; numba's number if None. The kernel holds no lock, so it may also be
        called from several threads.
    out
        uint8 (n, 224, 224, 3), contiguous, to write to: spares the allocation where batches follow each other.

    Returns
    -------
    uint8 (n, 224, 224, 3): window, masked window; haematoxylin, masked haematoxylin.
    """
    windows, masks = np.ascontiguousarray(windows), np.ascontiguousarray(masks)
    x, y = axis(windows.shape[2]), axis(windows.shape[1])
    across, down = np.stack(x[:2]), np.stack(y[:2])
    weights, parts = np.repeat(np.stack(x[2:]), 3, axis=1), np.stack(y[2:])
    if out is None:
        out = np.empty((len(windows), 2 * SIDE, 2 * SIDE, 3), np.uint8)
    rows = out.reshape(len(windows), 2 * SIDE, 6 * SIDE)

    def part(begin: int, end: int) -> None:
        chosen = slice(begin, end)
        _assemble(windows[chosen], masks[chosen], across, weights, down, parts, *tables(), SPREAD_BITS, rows[chosen])

    share(part, len(windows), threads or numba.get_num_threads())
    return out


def share(work: Any, total: int, threads: int) -> None:
    """Call ``work(begin, end)`` for ``threads`` equal parts of ``range(total)``, at the same time."""
    threads = max(1, min(threads, total))
    edges = np.linspace(0, total, threads + 1).astype(int)
    if threads == 1:
        work(0, total)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def assemble_torch(windows: Any, masks: Any, device: Any = "cpu") -> "torch.Tensor":
    """Make quadruple tiles on a device, over the whole batch.

    Multiply-adds are rounded once by way of float64, so that the result does not hang on what a device fuses.

    Parameters
    ----------
    windows, masks
        As for :func:`assemble`, arrays or tensors.
    device
        Where to work, and where the result is.

    Returns
    -------
    uint8 (n, 3, 224, 224).
    """
    import torch

    table = {name: torch.as_tensor(value.astype(np.int64), device=device) for name, value in tables()._asdict().items()}
    window = torch.as_tensor(windows, device=device).permute(0, 3, 1, 2)
    image = _resize_torch(window.to(torch.float32)).to(torch.uint8)
    stain = sum(table["density"][channel][image[:, channel].long()] for channel in range(3))
    colours = table["colours"].to(torch.uint8)
    stained = colours[torch.searchsorted(table["steps"], stain)].permute(0, 3, 1, 2)
    bit = torch.arange(7, -1, -1, device=device, dtype=torch.uint8)
    inside = ((torch.as_tensor(masks, device=device)[:, :, None] >> bit) & 1).reshape(-1, 1, SIDE, SIDE)
    upper = torch.cat([image, image * inside], dim=3)
    lower = torch.cat([stained, stained * inside], dim=3)
    return torch.cat([upper, lower], dim=2)


def _resize_torch(image: "torch.Tensor") -> "torch.Tensor":
    """Resize float32 (n, 3, h, w) to 112 × 112, bilinear, the same bits on every device."""
    import torch

    x, y = (
        [torch.as_tensor(part, device=image.device) for part in axis(side)] for side in (image.shape[3], image.shape[2])
    )
    columns = image[..., x[0]], image[..., x[1]]
    total = None
    for row, column in ((0, 1), (0, 0), (1, 0), (1, 1)):  # torch's order of the four terms
        weight = y[2 + row][:, None] * x[2 + column][None, :]
        source = columns[column][:, :, y[row]]
        product = source.double() * weight.double()
        total = product.float() if total is None else (product + total.double()).float()
    return total


def apply_dihedral(tiles: Any, view: int) -> Any:
    """Show tiles in one of the 8 dihedral views, each quadrant in its place.

    Parameters
    ----------
    tiles
        uint8 array (n, 224, 224, 3), or tensor (n, 3, 224, 224).
    view
        4·flip + k: mirror left–right first if flip, then k quarter turns anticlockwise.

    Returns
    -------
    A new array or tensor of the same kind and shape; the argument itself for view 0.
    """
    if not 0 <= view < 8:
        raise ValueError(f"views are 0 to 7, not {view}")
    if view == 0:
        return tiles
    flip, quarters = divmod(view, 4)
    if isinstance(tiles, np.ndarray):
        parts = tiles.reshape(-1, 2, SIDE, 2, SIDE, 3)
        parts = np.flip(parts, 4) if flip else parts
        return np.ascontiguousarray(np.rot90(parts, quarters, axes=(2, 4))).reshape(tiles.shape)
    parts = tiles.reshape(-1, 3, 2, SIDE, 2, SIDE)
    parts = parts.flip(5) if flip else parts
    return parts.rot90(quarters, (3, 5)).reshape(tiles.shape)
