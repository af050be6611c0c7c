"""What systems read of units: one class for each word of :data:`shest.systems.base.Reads`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shest.encode.cache import Embeddings
from shest.systems.base import Nothing, Reads
from shest.tiles.patch import Patches

Unit = tuple[str, str]  # sample and id


@dataclass(frozen=True)
class Slide:
    """Paths of a sample for a system that reads its image itself, by block."""

    store: Path
    outlines: Path
    registration: Path


@dataclass(frozen=True)
class Places:
    """Some units and the slides that they lie on; a unit is found by its id among the outlines of its sample.

    Attributes
    ----------
    samples
        :class:`Slide` by sample.
    units
        Sample and id of each.
    """

    samples: Mapping[str, Slide]
    units: Sequence[Unit]

    def __len__(self) -> int:
        return len(self.units)


class Slides:
    """The samples' images, for a system that passes over them; see :class:`Places`."""

    dim, fingerprint, orientation_invariant = 0, "", False

    def __init__(self, paths: Sequence[str], units: Sequence[Unit]) -> None:
        folders = dict.fromkeys(Path(path).parent for path in paths)
        names = "sdata.zarr", "outlines.parquet", "registration.json"
        self.samples = {folder.name: Slide(*(folder / name for name in names)) for folder in folders}
        self.units = list(units)

    def take(self, positions: np.ndarray, views: np.ndarray | int = 0) -> Places:
        """Return where some units are."""
        return Places(self.samples, [self.units[i] for i in positions])


def open_source(reads: Reads, paths: Sequence[str], units: Sequence[Unit]) -> Any:
    """Open what a system reads of units.

    Parameters
    ----------
    reads
        Of its spec.
    paths
        ``embeddings.json`` of each sample; ``patches.json``; the files of :class:`Slide`; none for ``nothing``.
    units
        Sample and id of each, in the order in which positions will be asked for.

    Returns
    -------
    Any
        Has ``dim``, ``fingerprint`` (of the encoder; empty for none) and ``take(positions, views)``.
    """
    makers = {"embeddings": Embeddings, "patches": Patches, "slide": Slides, "nothing": lambda paths, units: Nothing()}
    return makers[reads](paths, units)
