"""What the figures show of a run: scores of its systems; a sample's scored cells, their counts and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import anndata as ad
import numpy as np
import pandas as pd

from shest.io import store
from shest.io.counts import read_counts
from shest.io.expression import COMMON, normalise, to_common
from shest.io.genes import Genes
from shest.io.predictions import DRAWN
from shest.io.registration import Registration
from shest.score.evaluate import score_types
from shest.score.evaluation import PROGRAM, Evaluation, TypeScores

F1_COLUMNS = ("score", "by", "value", "low", "high")


@dataclass
class SampleResults:
    """A sample's scored cells and what was measured and predicted of them; the large parts are read when asked for.

    Attributes
    ----------
    name
        Of the sample.
    scored, predictions, store, registration
        Paths.
    """

    name: str
    scored: str
    predictions: str
    store: str
    registration: str

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Scored cells: cell_id, label, predicted, block, x_um, y_um (µm from the H&E's upper left corner, y down).

        Of spots their own id stands in ``cell_id``.
        """
        cells = pd.read_parquet(self.scored).rename(columns={"spot_id": "cell_id"})
        cells[["x_um", "y_um"]] = cells[["x", "y"]].to_numpy() * self.mpp
        return cells

    @cached_property
    def mpp(self) -> tuple[float, float]:
        """µm per H&E pixel along x and y."""
        return Registration.read(self.registration).mpp

    @cached_property
    def _predicted(self) -> ad.AnnData:
        return ad.read_h5ad(self.predictions, backed="r")

    @property
    def genes(self) -> list[str]:
        """Genes that the system predicts."""
        return list(self._predicted.var_names)

    def expected(self, genes: list[str]) -> np.ndarray:
        """Expected counts of the scored cells, (n, genes) float32."""
        rows = self._predicted.obs_names.get_indexer(self.cells["cell_id"])
        columns = self._predicted.var_names.get_indexer(genes)
        values = np.empty((len(rows), len(genes)), np.float32)
        for k, column in enumerate(columns):  # gene by gene: a slice is a chunk's width on disk
            values[:, k] = self._predicted.X[:, int(column) : int(column) + 1][rows, 0]
        return values

    def drawn(self, genes: list[str]) -> np.ndarray | None:
        """Counts of the scored cells drawn from the predicted distributions, (n, genes); None where there are none."""
        if DRAWN not in self._predicted.layers:
            return None
        rows = self._predicted.obs_names.get_indexer(self.cells["cell_id"])
        columns = self._predicted.var_names.get_indexer(genes)
        return self._predicted.layers[DRAWN][rows][:, columns].toarray()

    @cached_property
    def _measured(self):
        known = Genes.of(self._predicted.var_names, self._predicted.uns["gene_ids"])
        counts, genes, cell_ids = read_counts(self.store, known)
        return counts[pd.Index(cell_ids).get_indexer(self.cells["cell_id"])].tocsc(), pd.Index(genes.symbols)

    def measures(self, gene: str) -> bool:
        """Tell whether the sample's panel holds a gene."""
        return gene in self._measured[1]

    def counts(self, genes: list[str]) -> np.ndarray:
        """Measured counts of the scored cells, (n, genes)."""
        counts, names = self._measured
        return counts[:, names.get_indexer(genes)].toarray()

    def logs(self, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Measured and predicted expression of the scored cells on the scale :data:`COMMON`, (n, genes) each.

        Depth is over all genes that the system predicts; of systems whose unit names no depth of its own.
        """
        counts, names = self._measured
        known = np.flatnonzero(names.isin(self.genes))
        total = np.asarray(counts[:, known].sum(axis=1), float).ravel()
        chosen = counts[:, names.get_indexer(genes)].tocsr()
        return normalise(chosen, total, COMMON).toarray(), to_common(self.expected(genes), self._predicted.uns["unit"])

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Width and height of the H&E, µm."""
        height, width = store.image_scales(self.store)[0].shape[1:]
        return width * self.mpp[0], height * self.mpp[1]


def read(inputs: Mapping[str, Sequence[str]], samples: Sequence[str]) -> list[SampleResults]:
    """Gather what a figure's inputs (lists in the order of the samples) hold of each sample."""
    paths = (inputs[kind] for kind in ("scored", "predictions", "stores", "registrations"))
    return [SampleResults(*row) for row in zip(samples, *paths, strict=True)]


def confusion(scores: Sequence[TypeScores]) -> pd.DataFrame:
    """Add up the confusion matrices of several evaluations by name: rows label, columns predicted."""
    types = list(dict.fromkeys(t for s in scores for t in s.types))
    matrices = [pd.DataFrame(s.counts, s.types, s.types).reindex(index=types, columns=types) for s in scores]
    return sum(matrix.fillna(0).astype(int) for matrix in matrices)


def f1_rows(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a sample, kind of F1, system and protocol, of the systems that predict types; with its interval.

    Returns
    -------
    DataFrame
        As :func:`shest.draw.panels.bars` draws it.
    """
    protocols = list(dict.fromkeys(e.protocol for e in evaluations))
    scored = sorted((e for e in evaluations if e.types), key=lambda e: protocols.index(e.protocol))
    rows = []
    for sample in dict.fromkeys(e.sample for e in scored):
        of_sample = [e for e in scored if e.sample == sample]
        numbers = dict.fromkeys(f"n = {e.n:,} {e.protocol}" for e in of_sample)
        for name in ("weighted", "macro"):
            score = "\n".join([sample, name, *numbers])
            for e in of_sample:
                rows.append((score, by(e), getattr(e.types, name), *(e.interval(name) or (np.nan, np.nan))))
                if e.unrefined:
                    rows.append((score, f"{by(e)}, unrefined", getattr(e.unrefined[1], name), np.nan, np.nan))
    return pd.DataFrame(rows, columns=F1_COLUMNS)


def by(evaluation: Evaluation) -> str:
    """Name a system in a protocol."""
    return f"{evaluation.system}, {evaluation.protocol}"


def same_cells(evaluation: Evaluation, scored: pd.DataFrame) -> pd.DataFrame:
    """Return the scored cells to which every other program gives a type, and what each says of them.

    Programs that found no scored cell at all are left out; without programs, all scored cells are returned.

    Returns
    -------
    DataFrame
        annotated, the system's name (where it predicts types), then the programs' names: types.
    """
    programs = [name for name, found in evaluation.comparators.items() if found.scores]
    said = {"annotated": scored["label"]}
    if evaluation.types:
        said[evaluation.system] = scored["predicted"]
    table = pd.DataFrame(said | {name: scored[f"{PROGRAM}{name}"] for name in programs})
    return table.dropna(subset=programs).astype(str)


def f1_on_same_cells(evaluation: Evaluation, table: pd.DataFrame) -> pd.DataFrame:
    """Score the system and other programs on one set of cells (:func:`same_cells`), as :func:`f1_rows` has it.

    Beside weighted and macro F1 stands, for each program that cannot name every type, macro F1 over those that it can.
    """
    programs = [name for name in table if name in evaluation.comparators]
    if not programs or table.empty:
        return pd.DataFrame(columns=F1_COLUMNS)
    types = evaluation.types.types
    names = {evaluation.system: by(evaluation)} | {name: name for name in programs}
    scores = {
        shown: score_types(table["annotated"].to_numpy(), table[name].to_numpy(), types)
        for name, shown in names.items()
    }
    kinds = {"weighted": types, "macro": types}
    kinds |= {
        f"macro of the {len(can)}\n{name} can name": can
        for name in programs
        if len(can := [t for t in evaluation.comparators[name].nameable if t in types]) < len(types)
    }
    rows = [
        (f"{kind}\nsame cells\nn = {len(table):,}", shown, value, np.nan, np.nan)
        for kind, can in kinds.items()
        for shown, found in scores.items()
        if (value := found.weighted if kind == "weighted" else found.macro_of(can)) is not None
    ]
    return pd.DataFrame(rows, columns=F1_COLUMNS)
