"""``registration.json``: the affine between H&E pixels and micrometres, and how well it fits."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shest.core.files import read_json, write_json


@dataclass(frozen=True)
class Registration:
    """Where a sample's H&E lies in the frame of its measurement.

    Attributes
    ----------
    he_to_um, um_to_he
        3 x 3 affines between H&E pixels (x, y, 1; pixel centres at integers) and µm, inverse to each other.
    mpp_x, mpp_y
        µm per H&E pixel along its columns and rows: the lengths of the affine's columns.
    rotation
        Degrees, of the H&E's x axis in the frame of µm.
    mirror
        Whether the two frames are mirror images.
    share_on_tissue
        Share of the nuclei that lie on stained tissue; None before anybody looked.
    source
        ``given`` (an alignment, or the pixel size of a plain slide) or ``estimated`` (from nuclei).
    matched
        Share of nuclei with a partner among those that the H&E shows, its ``null`` (what chance gives), the residual
        (µm), what there is to ``doubt``, and the same by block, of which ``torn`` do not agree; None where there is
        nothing to hold it against.
    """

    he_to_um: np.ndarray
    um_to_he: np.ndarray
    mpp_x: float
    mpp_y: float
    rotation: float
    mirror: bool
    share_on_tissue: float | None = None
    source: str = "given"
    matched: dict[str, Any] | None = None

    @classmethod
    def of_alignment(cls, he_to_morphology: Any, pixel_size_um: float) -> "Registration":
        """Derive it from an alignment.

        Parameters
        ----------
        he_to_morphology
            3 x 3 affine from H&E pixels (x, y, 1) to Xenium morphology pixels, as in the alignment CSV.
        pixel_size_um
            Size of a morphology pixel, µm.
        """
        he_to_um = np.diag([pixel_size_um, pixel_size_um, 1.0]) @ np.asarray(he_to_morphology, dtype=float)
        linear = he_to_um[:2, :2]
        mpp_x, mpp_y = (float(length) for length in np.linalg.norm(linear, axis=0))
        rotation = float(np.degrees(np.arctan2(linear[1, 0], linear[0, 0])))
        return cls(he_to_um, np.linalg.inv(he_to_um), mpp_x, mpp_y, rotation, bool(np.linalg.det(linear) < 0))

    @classmethod
    def read(cls, path: str | Path) -> "Registration":
        """Read what :meth:`write` wrote."""
        data = read_json(path)
        affines = {name: np.array(data.pop(name)) for name in ("he_to_um", "um_to_he")}
        return cls(**affines, **data)

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        affines = {name: getattr(self, name).tolist() for name in ("he_to_um", "um_to_he")}
        write_json(path, affines | {k: v for k, v in asdict(self).items() if k not in affines})

    @property
    def mpp(self) -> tuple[float, float]:
        """µm per H&E pixel along x and y."""
        return self.mpp_x, self.mpp_y

    def to_um(self, xy: np.ndarray) -> np.ndarray:
        """Map H&E pixels (n, 2) to µm (n, 2)."""
        return np.asarray(xy) @ self.he_to_um[:2, :2].T + self.he_to_um[:2, 2]

    def to_px(self, xy: np.ndarray) -> np.ndarray:
        """Map µm (n, 2) to H&E pixels (n, 2)."""
        return np.asarray(xy) @ self.um_to_he[:2, :2].T + self.um_to_he[:2, 2]
