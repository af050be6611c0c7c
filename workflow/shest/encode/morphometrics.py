"""Morphometrics: simple, rotation-invariant features of nucleus and window, the encoder without weights.

Every feature is computed on the quadruple tile's window, whose 112 px span the physical window whatever the
slide's magnification; lengths are therefore in tile px (``window_um`` / 112 each). Turning or mirroring the
tile by a view of the dihedral group leaves every feature as it is, up to rounding.

=================  =========================================================================================
group              features
=================  =========================================================================================
``shape_*``        of the nucleus mask (scikit-image ``regionprops``): area, perimeter, axes, eccentricity,
                   solidity, extent of the bounding box, circularity 4 pi area / perimeter^2
``nucleus_*``      mean and standard deviation of R, G, B and of haematoxylin (h) and eosin (e) optical density
                   (Ruifrok & Johnston, as in ``rgb2hed``); 10th, 50th and 90th percentile of h
``ring_*``         the same means and deviations in a ring around the nucleus (the cytoplasm)
``window_*``       the same over the whole window; share of pixels that are rich in haematoxylin (crowding)
                   and of pixels that are nearly white (air, glass)
``radial_*``       mean h by distance from the nucleus' edge: inner and outer half of the nucleus, then shells
``edge_*``         mean gradient of h in the nucleus, along its outline, and in the window
``glcm_*``         grey-level co-occurrence of h over four angles (Haralick): contrast, homogeneity, energy and
                   correlation at two distances, in nucleus and window
``lbp_*``          histogram of uniform local binary patterns of the grey window, in nucleus and window
=================  =========================================================================================
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from skimage.color import hed_from_rgb

from shest.encode import morphometric_kernels as kernels
from shest.encode.morphometric_kernels import GLCM_DISTANCES, LBP_POINTS
from shest.tiles import quadruple
from shest.tiles.patch import resample
from shest.tiles.raster import SIDE, unpack

VERSION = 2  # raise it whenever a feature changes its value: it names the cached embeddings
RING = 14  # tile px: 2 µm in a window of 16 µm
SHELLS = ((0, 7), (7, 14), (14, 28))
GLCM_PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
H_RANGE = (0.0, 0.25)  # optical density of haematoxylin that the grey levels span
H_RICH, WHITE = 0.09, 220
CHANNELS = ("r", "g", "b", "h", "e")
SHAPES = ("area", "perimeter", "major", "minor", "eccentricity", "solidity", "extent", "circularity")

_DENSITY = -np.log(np.maximum(np.arange(256) / 255, 1e-6)) / -np.log(1e-6)  # rgb2hed's optical density
_VECTORS = np.ascontiguousarray(hed_from_rgb[:, :2])


def feature_names() -> list[str]:
    """Return the names of the features, in the order of the columns."""
    names = [f"shape_{name}" for name in SHAPES]
    for region in ("nucleus", "ring", "window"):
        names += [f"{region}_{statistic}_{c}" for statistic in ("mean", "std") for c in CHANNELS]
    names += [f"nucleus_p{q}_h" for q in (10, 50, 90)] + ["window_rich_h", "window_white"]
    names += ["radial_inner", "radial_outer"] + [f"radial_{low}_{high}" for low, high in SHELLS]
    names += ["edge_nucleus", "edge_outline", "edge_window"]
    names += [
        f"glcm_{region}_{prop}_{d}"
        for region in ("nucleus", "window")
        for prop in GLCM_PROPERTIES
        for d in GLCM_DISTANCES
    ]
    names += [f"lbp_{region}_{k}" for region in ("nucleus", "window") for k in range(LBP_POINTS + 2)]
    return names


def features(windows: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Compute the features of some cells.

    Parameters
    ----------
    windows : (n, 112, 112, 3) uint8
    masks : (n, 112, 112) bool, the nucleus

    Returns
    -------
    (n, len(feature_names())) float32; finite, also for an empty mask
    """
    found = np.zeros((len(windows), len(feature_names())))
    shells = np.array(SHELLS, np.float64)
    for window, mask, row in zip(windows, masks, found, strict=True):
        if not mask.any():  # a sliver that no pixel centre falls into: take the centre
            mask = np.zeros_like(mask)
            mask[SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1] = True
        kernels.measure(window, mask, _DENSITY, _VECTORS, RING, shells, H_RANGE, H_RICH, WHITE, row)
    return np.nan_to_num(found.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def patch_names() -> list[str]:
    """Return the names of the features of a plain patch, in the order of the columns."""
    own = [name for name in feature_names() if not name.startswith("shape_")]
    return [f"{statistic}_{name}" for statistic in ("mean", "spread") for name in own]


def patch_features(patches: np.ndarray) -> np.ndarray:
    """Compute the features of some plain patches: those of windows of 112 px that they are cut into.

    What is rich in haematoxylin stands for the nucleus, so that ``nucleus_*`` and ``ring_*`` are colour and texture of
    nuclei and of what lies around them; lengths are in px of the patch.

    Parameters
    ----------
    patches : (n, px, px, 3) uint8; brought to the nearest multiple of 112 px

    Returns
    -------
    (n, len(patch_names())) float32: mean over the windows and standard deviation between them
    """
    number = max(1, round(patches.shape[1] / SIDE))
    found = np.empty((len(patches), len(patch_names())), np.float32)
    for patch, row in zip(patches, found, strict=True):
        grid = resample(patch, number * SIDE).reshape(number, SIDE, number, SIDE, 3).swapaxes(1, 2)
        windows = np.ascontiguousarray(grid.reshape(-1, SIDE, SIDE, 3))
        of_windows = features(windows, _DENSITY[windows] @ _VECTORS[:, 0] > H_RICH)[:, len(SHAPES) :]
        row[:] = np.concatenate([of_windows.mean(axis=0), of_windows.std(axis=0)])
    return found


class Morphometrics:
    """The encoder without weights: features of some cells at once, in threads."""

    dim, batch = len(feature_names()), 256

    def __init__(self, threads: int = 1, patches: bool = False) -> None:
        self.threads = max(1, threads)
        if patches:
            self.dim = len(patch_names())

    def describe(self) -> str:
        """Say what encodes."""
        return f"morphometrics on {self.threads} CPU threads"

    def encode(self, windows: np.ndarray, masks: np.ndarray | None, view: int) -> np.ndarray:
        """Encode (n, h, w, 3) uint8 windows -> (n, dim) float32; views are alike.

        ``masks``: packed (n, 1568); None of plain patches.
        """
        pieces = [piece for piece in np.array_split(np.arange(len(windows)), self.threads) if len(piece)]

        def encode_piece(piece: np.ndarray) -> np.ndarray:
            if masks is None:
                return patch_features(windows[piece])
            quadrants = quadruple.assemble(windows[piece], masks[piece])[:, :SIDE, :SIDE]
            return features(np.ascontiguousarray(quadrants), unpack(masks[piece]))

        if not pieces:
            return np.empty((0, self.dim), np.float32)
        with ThreadPoolExecutor(len(pieces)) as pool:
            return np.concatenate(list(pool.map(encode_piece, pieces)))
