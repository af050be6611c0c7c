"""What the figures show of a sample: scored cells, their counts and expectations, and how large its H&E is."""

from dataclasses import dataclass
from functools import cached_property

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import files
from shest.io import store
from shest.io.counts import read_counts


@dataclass
class Shown:
    """A sample's scored cells and what was measured and predicted of them; the large parts are read when asked for.

    Attributes
    ----------
    name : of the sample
    scored_path, predictions, store, registration : paths
    """

    name: str
    scored_path: str
    predictions: str
    store: str
    registration: str

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Scored cells: cell_id, actual, called, block, x_um, y_um (µm from the H&E's upper left corner, y down)."""
        cells = pd.read_parquet(self.scored_path)
        cells[["x_um", "y_um"]] = cells[["x", "y"]].to_numpy() * self.mpp
        return cells

    @cached_property
    def mpp(self) -> np.ndarray:
        """µm per H&E pixel along x and y."""
        found = files.read_json(self.registration)
        return np.array([found["mpp_x"], found["mpp_y"]])

    @cached_property
    def _predicted(self) -> ad.AnnData:
        return ad.read_h5ad(self.predictions, backed="r")

    @property
    def genes(self) -> list[str]:
        """Genes that the model reconstructs."""
        return list(self._predicted.var_names)

    def expected(self, genes: list[str]) -> np.ndarray:
        """Expected counts of the scored cells, (n, genes) float32."""
        rows = self._predicted.obs_names.get_indexer(self.cells["cell_id"])
        columns = self._predicted.var_names.get_indexer(genes)
        values = np.empty((len(rows), len(genes)), np.float32)
        for k, column in enumerate(columns):  # gene by gene: a slice is a chunk's width on disk
            values[:, k] = self._predicted.X[:, int(column) : int(column) + 1][rows, 0]
        return values

    @cached_property
    def _measured(self):
        counts, genes, cell_ids = read_counts(self.store)
        return counts[pd.Index(cell_ids).get_indexer(self.cells["cell_id"])].tocsc(), pd.Index(genes)

    def measures(self, gene: str) -> bool:
        """Tell whether the sample's panel holds a gene."""
        return gene in self._measured[1]

    def counts(self, genes: list[str]) -> np.ndarray:
        """Measured counts of the scored cells, (n, genes)."""
        counts, names = self._measured
        return counts[:, names.get_indexer(genes)].toarray()

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Width and height of the H&E, µm."""
        height, width = store.image_scales(self.store)[0].shape[1:]
        return width * self.mpp[0], height * self.mpp[1]


def read(inputs: dict, samples: list[str], stores: list[str]) -> list[Shown]:
    """Gather what a figure's inputs (lists in the order of the samples) hold of each sample."""
    parts = (inputs["scored"], inputs["predictions"], stores, inputs["registrations"])
    return [Shown(*one) for one in zip(samples, *parts, strict=True)]
