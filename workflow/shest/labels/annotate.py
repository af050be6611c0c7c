"""Annotation: each cell's subtype by its expression, its type, and the pathologist's word on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.errors import InputError, one_line
from shest.io import genes as panels
from shest.labels.mixture import KEY
from shest.labels.vote import UNKNOWN

REASONS = ("labelled", "no_counts", "unknown_cluster", "excluded_subtype", "disagrees", "not_in_table")
WORDS = ("agree", "table", "expression")
"""Whose word counts where table and expression both speak: ``annotate.label``."""


def read_reference(
    path: str | Path,
    counts: str = "auto",
    label_key: str = "cell_type_tumor",
    symbol_key: str = "feature_name",
    exclude: dict[str, list] | None = None,
) -> ad.AnnData:
    """Read the labelled reference.

    Returns
    -------
    AnnData
        X: whole-number counts (CSR); obs["subtype"]: labels; var index: gene symbols; var["gene_ids"]: Ensembl ids,
        "" where there is none.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, has labels that are missing or all alike, symbols without
        ids that stand there twice, or values that are no counts.
    """
    try:
        data = ad.read_h5ad(path)
    except Exception as error:
        raise InputError(
            path, f"no AnnData file that can be read ({one_line(error)})", "Fetch the file again"
        ) from None
    data = data[included(path, data.obs, exclude)]
    labels = reference_labels(path, data.obs, label_key)
    genes = reference_genes(path, data.var, symbol_key)
    matrix = sparse.csr_matrix(_counts(path, data, counts), dtype=np.float32)
    reference = ad.AnnData(matrix, obs=pd.DataFrame({KEY: labels.to_numpy()}, index=data.obs_names))
    reference.var = pd.DataFrame({"gene_ids": genes.ids}, index=pd.Index(genes.symbols))
    reference.obs[KEY] = reference.obs[KEY].astype("category")
    return reference


def included(path: str | Path, obs: pd.DataFrame, exclude: dict[str, list] | None) -> np.ndarray:
    """Return which cells of the reference (n,) bool are not left out by the config.

    Raises
    ------
    InputError
        A column that ``exclude`` names is not there.
    """
    kept = np.ones(len(obs), dtype=bool)
    for column, values in (exclude or {}).items():
        _need(path, obs, column, "obs", "reference.exclude")
        kept &= ~obs[column].isin(values).to_numpy()
    return kept


def reference_labels(path: str | Path, obs: pd.DataFrame, label_key: str) -> pd.Series:
    """Return the subtype of each cell (n,) str; raise :class:`InputError` where one is missing or all are alike."""
    _need(path, obs, label_key, "obs", "reference.label_key")
    labels = obs[label_key]
    if labels.isna().any():
        raise InputError(path, f"{int(labels.isna().sum())} cells have no {label_key}", "Label or remove these cells")
    if labels.nunique() < 2:
        raise InputError(path, f"{label_key} has fewer than two labels", "Choose another reference.label_key")
    return labels.astype(str)


def reference_genes(path: str | Path, var: pd.DataFrame, symbol_key: str) -> panels.Genes:
    """Return the genes; raise :class:`InputError` where a symbol stands there twice and no ids tell its genes apart."""
    symbols = var.index
    if symbol_key != "index":
        _need(path, var, symbol_key, "var", "reference.symbol_key")
        symbols = var[symbol_key]
    genes = panels.of_var(var, np.asarray(symbols, dtype=str))
    names = pd.Series(genes.symbols)
    twice = names[names.duplicated(keep=False) & (pd.Series(genes.ids) == "")].unique()[:3]
    if len(twice):
        raise InputError(path, f"gene symbols stand there twice: {', '.join(twice)}", "Sum or drop the duplicates")
    return genes


def _need(path, frame: pd.DataFrame, column: str, where: str, key: str) -> None:
    if column not in frame.columns:
        known = ", ".join(map(str, frame.columns[:12]))
        raise InputError(path, f"no column {column} in {where}", f"Set {key} to one of: {known}")


def _counts(path, data: ad.AnnData, where: str):
    """Take the matrix that holds whole numbers; a log-normalised one is refused."""
    if where not in ("auto", "X", "raw") and where not in data.layers:
        known = ", ".join(["auto", "X", "raw", *data.layers])
        raise InputError(path, f"no layer {where}", f"Set reference.counts to one of: {known}")
    if where == "raw" and data.raw is None:
        raise InputError(path, "no raw matrix", "Set reference.counts to X, or add the counts")
    if where in data.layers:
        matrix = data.layers[where]
    elif where == "raw" or (where == "auto" and data.raw is not None):
        if not data.var_names.isin(data.raw.var_names).all():
            raise InputError(path, "raw lacks genes that var has", "Set reference.counts to X or a layer with counts")
        matrix = data.raw[:, data.var_names].X
    else:
        matrix = data.X
    check_whole(path, matrix.data if sparse.issparse(matrix) else np.asarray(matrix))
    return matrix


def check_whole(path: str | Path, values: np.ndarray) -> None:
    """Raise :class:`InputError` where values are negative, not whole or not finite: no counts."""
    whole = np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    if values.size and not (whole and values.min() >= 0):
        raise InputError(
            path,
            "its values are no whole numbers (normalised or log-transformed)",
            "Set reference.counts to where the raw counts are; TACCO needs counts",
        )


def group_owners(types: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the config's type that each group of a pathologist's table is: its own name, and its ``groups``."""
    return {group: name for name, entry in types.items() for group in [name, *entry.get("groups", [])]}


def read_table(path: str | Path, cell_ids: np.ndarray, owners: Mapping[str, str] | None = None) -> pd.Series:
    """Read a pathologist's table (columns cell_id and group); return the group by cell_id.

    A cell without a group is one on which the pathologist said nothing. Groups that are types of the config under
    another name are called by the type's (``owners``, :func:`group_owners`).

    Raises
    ------
    InputError
        A column is missing, a cell stands there twice, or the bundle does not have a cell of the table.
    """
    table = parse_table(path)
    for problem in table_problems(path, table, cell_ids):
        raise problem
    groups = table.set_index("cell_id")["group"].str.strip()
    return groups.where(groups != "").replace(owners or {})


def parse_table(path: str | Path) -> pd.DataFrame:
    """Read the columns cell_id and group of a table as text; raise :class:`InputError` where that cannot be."""
    try:
        table = pd.read_csv(path, dtype=str, sep=None, engine="python", encoding="utf-8-sig")
    except Exception as error:
        raise InputError(path, f"no table that can be read ({one_line(error)})", "Write a CSV: cell_id,group") from None
    for column in ("cell_id", "group"):
        _need(path, table, column, "the table", "the header (cell_id,group)")
    return table[["cell_id", "group"]]


def table_problems(path: str | Path, table: pd.DataFrame, cell_ids: np.ndarray) -> list[InputError]:
    """List what is wrong with the cells of a pathologist's table."""
    said = []
    twice = table["cell_id"][table["cell_id"].duplicated()].unique()
    if len(twice):
        said.append(InputError(path, f"{len(twice):,} cells stand there twice ({_some(twice)})", "Keep one row a cell"))
    unknown = table["cell_id"][~table["cell_id"].isin(cell_ids)].unique()
    if len(unknown):
        said.append(
            InputError(
                path,
                f"{len(unknown):,} cells that the bundle does not have ({_some(unknown)})",
                "Check that the table belongs to this bundle",
            )
        )
    return said


def _some(names: np.ndarray) -> str:
    return ", ".join(map(str, names[:3]))


def prior_from_table(
    groups: pd.Series, weights: pd.Series, subtypes: dict[str, list[str]], reference: ad.AnnData
) -> pd.Series:
    """Turn the type shares of a table into a prior over the reference's subtypes.

    Cells count by their transcripts, as in TACCO's own prior. Within a type the reference's composition stands;
    subtypes of types that the table lacks, and of none, get no share.

    Parameters
    ----------
    groups : type by cell_id
    weights : transcripts by cell_id
    subtypes : subtypes by type
    reference : counts with obs["subtype"]
    """
    by_type = weights.reindex(groups.index).fillna(0).groupby(groups.to_numpy()).sum()
    reads = pd.Series(np.asarray(reference.X.sum(axis=1)).ravel()).groupby(reference.obs[KEY].to_numpy()).sum()
    shares = {}
    for name, members in subtypes.items():
        inside = reads.reindex(members).fillna(0)
        if by_type.get(name, 0) > 0 and inside.sum() > 0:
            shares |= (inside / inside.sum() * by_type[name]).to_dict()
    prior = pd.Series(shares, dtype=float)
    return prior[prior > 0] / prior.sum()


def share_genes(
    counts: ad.AnnData, reference: ad.AnnData, min_shared_genes: int
) -> tuple[ad.AnnData, ad.AnnData, dict[str, int]]:
    """Return copies of both with the genes in common, and those cells that have counts among them.

    Genes are joined as :mod:`shest.io.genes` says, and named as in the sample; the third value says how many were.

    Raises
    ------
    InputError
        Fewer than ``min_shared_genes`` are in common, or no cell of the sample has counts among them.
    """
    pairs = panels.pair(panels.of_var(counts.var), panels.of_var(reference.var))
    if len(pairs.first) < min_shared_genes:
        raise InputError(
            "reference.path",
            f"only {len(pairs.first)} genes in common with the sample (reference.min_shared_genes: {min_shared_genes})",
            "Check reference.symbol_key: the column with gene symbols",
        )
    parts = counts[:, pairs.first], reference[:, pairs.second]
    cells, known = (part[transcripts(part) > 0].copy() for part in parts)
    known.var_names = cells.var_names
    if not cells.n_obs:
        raise InputError("reference.path", "no cell has counts of genes in common", "Check reference.symbol_key")
    return cells, known, pairs.summary(counts.n_vars)


def transcripts(counts: ad.AnnData) -> np.ndarray:
    """Return the number of transcripts of each cell."""
    return np.asarray(counts.X.sum(axis=1), dtype=float).ravel()


def reference_shares(reference: ad.AnnData) -> pd.Series:
    """Return each subtype's share of the reference's transcripts, TACCO's own prior."""
    sums = pd.Series(transcripts(reference)).groupby(reference.obs[KEY].to_numpy()).sum()
    return sums / sums.sum()


def choose_prior(
    kind: str | dict[str, float],
    groups: pd.Series | None,
    weights: pd.Series,
    subtypes: dict[str, list[str]],
    reference: ad.AnnData,
    estimated: pd.Series,
) -> tuple[str, pd.Series]:
    """Return the name of the prior that ``annotate.prior`` asks for, and the prior: share of transcripts by subtype.

    ``auto`` is the table's where there is a table, and else the estimated one; ``weights``: transcripts by cell_id.

    Raises
    ------
    InputError
        A subtype is unknown, or the table's prior is asked for where there is no table.
    """
    if isinstance(kind, dict):
        unknown = sorted(set(kind) - set(reference.obs[KEY].cat.categories))
        if unknown:
            raise InputError("annotate.prior", f"unknown subtypes {', '.join(unknown)}", "Use the reference's names")
        return "given", pd.Series(kind, dtype=float) / sum(kind.values())
    if kind == "auto":
        kind = "estimated" if groups is None else "table"
    if kind == "table" and groups is None:
        raise InputError(
            "annotate.prior", "table, but the sample has no pathologist's table", "Use auto, or name the table"
        )
    if kind == "table":
        return kind, prior_from_table(groups, weights, subtypes, reference)
    return kind, estimated if kind == "estimated" else reference_shares(reference)


def run_tacco(cells: ad.AnnData, reference: ad.AnnData, prior: pd.Series | None) -> pd.DataFrame:
    """Run TACCO.

    Parameters
    ----------
    cells, reference
        Whole-number counts of the same genes, some in each cell (:func:`share_genes`).
    prior
        Share of each subtype in the transcripts (subtypes not in it are not considered), or None for the reference's.

    Returns
    -------
    DataFrame
        Shares (cells × subtypes).
    """
    import tacco  # here: reading a reference or a table needs none of it

    known = reference if prior is None else reference[reference.obs[KEY].isin(prior.index)]
    if known.obs[KEY].nunique() < 2:
        raise InputError("annotate.prior", "fewer than two subtypes have a share", "Set it to estimated")
    known = known.copy()
    known.obs[KEY] = known.obs[KEY].cat.remove_unused_categories()
    return tacco.tl.annotate(
        cells,
        known,
        annotation_key=KEY,
        annotation_prior=None if prior is None else prior.reindex(known.obs[KEY].cat.categories),
        assume_valid_counts=True,
        remove_constant_genes=False,
        verbose=0,
    )


def call_types(shares: pd.DataFrame, subtypes: dict[str, list[str]], pooled: bool) -> pd.DataFrame:
    """Decide each cell's subtype and type by its shares.

    Parameters
    ----------
    shares : (cells × subtypes); cells with a missing share are left out
    subtypes : subtypes by type; one in none of them has no type
    pooled : the subtypes of a type count together, as posterior probabilities do (the mixture), and the subtype is the
        largest of the type; or the largest subtype decides (TACCO, as published)

    Returns
    -------
    DataFrame
        subtype, type (missing where the subtype has none) and score, the share that decided; by cell.
    """
    shares = shares.dropna()
    values, names = shares.to_numpy(), shares.columns.to_numpy(object)
    type_of = {subtype: name for name, members in subtypes.items() for subtype in members}
    owner = np.arange(len(names))
    if pooled:  # a subtype of no type stands for itself
        owner = pd.factorize(np.array([f"type {type_of[n]}" if n in type_of else f"subtype {n}" for n in names]))[0]
    sums = values @ (owner[:, None] == np.arange(owner.max() + 1))
    winner = sums.argmax(axis=1)
    subtype = names[np.where(owner == winner[:, None], values, -1).argmax(axis=1)]
    found = pd.DataFrame({"subtype": subtype}, shares.index, dtype=object)
    found["type"] = found["subtype"].map(type_of).astype(object)
    found["score"] = sums[np.arange(len(sums)), winner].astype(np.float32)
    return found


def label(
    cell_ids: np.ndarray, called: pd.DataFrame, groups: pd.Series | None, method: str = "tacco", word: str = "agree"
) -> pd.DataFrame:
    """Decide each cell's label.

    Parameters
    ----------
    cell_ids : (n,) str, all cells
    called : subtype, type and score of the cells with counts (:func:`call_types`)
    groups : the pathologist's type by cell_id, or None where no table is given
    method : what called the types (``tacco``, ``mixture``, ``marker``), for the name of their column
    word : one of ``WORDS``; without a table the expression's is the only one

    Returns
    -------
    DataFrame
        One row a cell: cell_id, subtype, score, {method}_type, table_type, cell_type, reason (one of ``REASONS``).
    """
    frame = pd.DataFrame(index=pd.Index(np.asarray(cell_ids, dtype=str), name="cell_id"))
    frame[["subtype", "score"]] = called[["subtype", "score"]].reindex(frame.index)
    typed = f"{method}_type"
    frame[typed] = called["type"].reindex(frame.index)
    frame["table_type"] = None if groups is None else groups.reindex(frame.index)
    obstacles = {
        "no_counts": frame["subtype"].isna(),
        "unknown_cluster": (frame["subtype"] == UNKNOWN) & (method == "marker"),
        "excluded_subtype": frame[typed].isna(),
        "not_in_table": frame["table_type"].isna(),
        "disagrees": frame[typed] != frame["table_type"],
    }
    heeded = {"agree": list(obstacles), "table": ["not_in_table"], "expression": list(obstacles)[:3]}
    heeded = heeded["expression" if groups is None else word]
    frame["reason"] = np.select([obstacles[name] for name in heeded], heeded, default="labelled")
    source = "table_type" if groups is not None and word == "table" else typed
    frame["cell_type"] = frame[source].where(frame["reason"] == "labelled")
    text = ["subtype", typed, "table_type", "cell_type", "reason"]
    frame[text] = frame[text].astype("string")
    return frame.reset_index()[["cell_id", "subtype", "score", typed, "table_type", "cell_type", "reason"]]
