"""What systems read of units: one class for each word of :data:`shest.systems.base.Reads`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shest.encode.cache import Embeddings
from shest.systems.base import Nothing, Reads
from shest.tiles.shards import Windows

Unit = tuple[str, str]  # sample and id


@dataclass(frozen=True)
class Slide:
    """Paths of a sample for a system that reads its image itself, by block."""

    store: Path
    outlines: Path
    registration: Path


class Slides:
    """The samples' images, for a system that passes over them: a unit is its place in the outlines of its sample.

    Attributes
    ----------
    samples
        :class:`Slide` by sample.
    units
        Sample and id, by position.
    """

    dim, fingerprint, orientation_invariant = 0, "", False

    def __init__(self, paths: Sequence[str], units: Sequence[Unit]) -> None:
        folders = dict.fromkeys(Path(path).parent for path in paths)
        names = "sdata.zarr", "outlines.parquet", "registration.json"
        self.samples = {folder.name: Slide(*(folder / name for name in names)) for folder in folders}
        self.units = list(units)

    def take(self, positions: np.ndarray, views: np.ndarray | int = 0) -> list[Unit]:
        """Return sample and id of some units."""
        return [self.units[i] for i in positions]


def open_source(reads: Reads, paths: Sequence[str], units: Sequence[Unit]) -> Any:
    """Open what a system reads of units.

    Parameters
    ----------
    reads
        Of its spec.
    paths
        ``embeddings.json`` of each sample; ``tiles.json``; the files of :class:`Slide`; none for ``nothing``.
    units
        Sample and id of each, in the order in which positions will be asked for.

    Returns
    -------
    Any
        Has ``dim``, ``fingerprint`` (of the encoder; empty for none) and ``take(positions, views)``.
    """
    makers = {"embeddings": Embeddings, "patches": Windows, "slide": Slides, "nothing": lambda paths, units: Nothing()}
    return makers[reads](paths, units)
