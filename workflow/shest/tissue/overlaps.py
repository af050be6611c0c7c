"""Two sets of nuclei laid over each other: which share pixels, how many, and the panoptic quality of that."""

from dataclasses import dataclass

import numpy as np

IOU = 0.5


@dataclass(frozen=True)
class Overlaps:
    """Areas of two sets of nuclei and of what they share, in px.

    Attributes
    ----------
    reference, found
        int64 (n,), (m,): area of each nucleus; 0 for one that lies wholly outside of what is compared.
    i, j
        int64 (k,): nuclei of the two that share a pixel, positions in ``reference`` and ``found``.
    shared
        int64 (k,): how many.
    """

    reference: np.ndarray
    found: np.ndarray
    i: np.ndarray
    j: np.ndarray
    shared: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each pair, float64 (k,)."""
        return self.shared / (self.reference[self.i] + self.found[self.j] - self.shared)


def overlaps_of_labels(reference: np.ndarray, found: np.ndarray) -> Overlaps:
    """Compare two label maps, int (h, w) with 0 for no nucleus; labels need not be consecutive."""
    ids_a, a = np.unique(reference, return_inverse=True)
    ids_b, b = np.unique(found, return_inverse=True)
    a = a.ravel() - (0 in ids_a)
    b = b.ravel() - (0 in ids_b)
    n, m = len(ids_a) - (0 in ids_a), len(ids_b) - (0 in ids_b)
    both = (a >= 0) & (b >= 0)
    pairs, shared = np.unique(a[both].astype(np.int64) * max(m, 1) + b[both], return_counts=True)
    areas = [np.bincount(x[x >= 0], minlength=k).astype(np.int64) for x, k in ((a, n), (b, m))]
    return Overlaps(*areas, pairs // max(m, 1), pairs % max(m, 1), shared.astype(np.int64))


def quality(overlaps: Overlaps) -> dict[str, float | None]:
    """Return F1 at IoU above 0.5, mean IoU of those pairs, and their product, PQ (Kirillov et al. 2019)."""
    iou = overlaps.iou
    pairs = iou > IOU  # above one half a nucleus has one partner at most
    nuclei = int((overlaps.reference > 0).sum() + (overlaps.found > 0).sum())
    if not nuclei:
        return {"f1": None, "mean_iou": None, "pq": None}
    f1 = 2 * int(pairs.sum()) / nuclei
    mean = float(iou[pairs].mean()) if pairs.any() else 0.0
    return {"f1": f1, "mean_iou": mean, "pq": f1 * mean}
