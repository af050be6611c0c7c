"""How much haematoxylin a colour holds: stain vectors of the slide itself, or fixed ones, as one table a channel.

Colour deconvolution (Ruifrok and Johnston 2001): optical densities are a sum of stains; the density of one is a
weighted sum of the three channels' optical densities. The vectors of haematoxylin and eosin are those of Macenko et al.
(2009), with percentiles far enough from the ends that ink, blood and brown pigment do not decide.
"""

from dataclasses import asdict, dataclass

import numpy as np

from shest.tiles.haematoxylin import RGB_FROM_HED

ANGLES = (5, 95)  # percentiles of the angle in the plane of the two stains
FULL = 99  # percentile of the density that is called one
LEAST_PIXELS = 2000
ALIKE = 0.9  # cosine to the fixed haematoxylin below which an estimate is none


@dataclass(frozen=True)
class Stain:
    """What tells the haematoxylin of a colour.

    Attributes
    ----------
    source
        ``macenko`` or ``fixed``.
    haematoxylin, eosin
        Optical densities of R, G and B for each stain, of length one.
    full
        Density, in these units, that is called one: the 99th percentile of the stained pixels.
    reason
        Why an estimate was wanted and not used; None else.
    """

    source: str
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    full: float
    reason: str | None = None

    def table(self) -> np.ndarray:
        """Return float32 (3, 256): what each value of each channel adds to the density."""
        return (weights(self.haematoxylin, self.eosin)[:, None] * optical_density()[None] / self.full).astype(
            np.float32
        )

    def asdict(self) -> dict:
        """For JSON."""
        return asdict(self)


def optical_density() -> np.ndarray:
    """Return −ln((v + 1) / 256) of the values 0 to 255."""
    return -np.log(np.arange(1, 257) / 256)


def weights(haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """Return what each channel's optical density weighs in the density of haematoxylin, (3,).

    What is neither stain is at right angles to both: an estimate that is a little off changes little.
    """
    rest = np.cross(haematoxylin, eosin)
    return np.linalg.inv(np.stack([haematoxylin, eosin, rest / np.linalg.norm(rest)]))[:, 0]


def stained(rgb: np.ndarray) -> np.ndarray:
    """Tell the colours of haematoxylin and eosin from glass, ink, pigment and black, (..., 3) uint8 -> bool (...)."""
    density = optical_density()[rgb]
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    coloured = (red >= green) & (blue >= 0.97 * green) & (blue > 60)
    return coloured & (density.mean(axis=-1) > 0.15) & (density.min(axis=-1) < 1.5)


def fixed(rgb: np.ndarray, reason: str | None = None) -> Stain:
    """Use the vectors of scikit-image (:data:`shest.tiles.haematoxylin.RGB_FROM_HED`); the scale is the slide's own."""
    vectors = RGB_FROM_HED[:2] / np.linalg.norm(RGB_FROM_HED[:2], axis=1, keepdims=True)
    return Stain("fixed", *_plain(vectors), _full(rgb[stained(rgb)], vectors), reason)


def estimate(rgb: np.ndarray) -> Stain:
    """Estimate the stain vectors from pixels (n, 3) uint8; the fixed ones, with the reason, where that fails."""
    pixels = rgb[stained(rgb)]
    if len(pixels) < LEAST_PIXELS:
        return fixed(rgb, f"only {len(pixels):,} stained pixels to estimate from")
    density = optical_density()[pixels]
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, [2, 1]]
    plane[:, 0] *= np.sign(plane[:, 0].sum()) or 1.0
    along = density @ plane
    angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), ANGLES)
    ends = np.array([plane @ (np.cos(angle), np.sin(angle)) for angle in angles])
    ends = ends[np.argsort(ends[:, 1] / ends[:, 0])]  # haematoxylin takes more of the red, for the green that it takes
    usual = RGB_FROM_HED[:2] / np.linalg.norm(RGB_FROM_HED[:2], axis=1, keepdims=True)
    if (ends <= 0).any() or ends[0] @ usual[0] < ALIKE or ends[0] @ ends[1] > 0.995:
        return fixed(rgb, "the two stains cannot be told apart by colour")
    return Stain("macenko", *_plain(ends), _full(pixels, ends))


def _plain(vectors: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(float(value) for value in vector) for vector in vectors]


def _full(pixels: np.ndarray, vectors: np.ndarray) -> float:
    """Return the density that is called one; one where there are no pixels."""
    if not len(pixels):
        return 1.0
    return max(float(np.percentile(optical_density()[pixels] @ weights(*vectors), FULL)), 1e-3)
