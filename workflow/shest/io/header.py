"""What the files of a sample say of it before they are read whole, and what is plausible of an H&E."""

from dataclasses import dataclass, field

import numpy as np

from shest.io.genes import Genes

LEAST_INSIDE, FEW_INSIDE = 0.2, 0.8  # share of the cells on the H&E: below the first wrong, below the second odd
MPP_RANGE = (0.1, 1.2)  # µm per H&E pixel: 80x to 8x


@dataclass
class SampleHeader:
    """What the files of a bundle or a plain slide say of it; None or empty where a file could not be read.

    Attributes
    ----------
    version
        Of the analysis software that wrote a bundle, or None where ``experiment.xenium`` names none.
    cell_ids
        (n,) str, in the order of the count matrix, or of the outlines of a plain slide.
    genes
        Features of type Gene Expression.
    values
        Counts above 0.
    nuclei, cells_with_nucleus
        Outlines of nuclei; cells that own at least one.
    he_shape
        Height and width of the H&E, px.
    mpp
        µm per H&E px along x and y.
    share_inside
        Share of the cells whose centroid lies on the H&E.
    """

    version: tuple[int, ...] | None = None
    cell_ids: np.ndarray | None = None
    genes: Genes = field(default_factory=Genes)
    values: int = 0
    nuclei: int | None = None
    cells_with_nucleus: int | None = None
    he_shape: tuple[int, int] | None = None
    mpp: tuple[float, float] | None = None
    share_inside: float | None = None

    def summary(self) -> dict:
        """Return what a record of the checks says of the sample, as JSON can hold it."""
        return {
            "version": ".".join(map(str, self.version)) if self.version else None,
            "cells": None if self.cell_ids is None else len(self.cell_ids),
            "nuclei": self.nuclei,
            "genes": len(self.genes),
            "he_shape": self.he_shape,
            "mpp": self.mpp,
            "share_inside": self.share_inside,
        }


def share_inside(pixels: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the share of points (n, 2), x and y in px, that lie on an image (height, width)."""
    return float(((pixels >= -0.5) & (pixels < np.array(shape[::-1]) - 0.5)).all(axis=1).mean())
