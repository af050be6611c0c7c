"""Labels from expression alone: cells are clustered, and databases of marker genes say what each cluster is.

The label generation of arXiv 2604.23481, which publishes no code. What it does not say is scanpy's default: library
size and logarithm, 50 principal components, 15 neighbours.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.io import marker_databases as databases
from shest.labels import vote
from shest.labels.vote import NEOPLASTIC, UNKNOWN, Rules

SILHOUETTE_CELLS = 5_000
UNKNOWN_ORGAN = "No database of marker genes knows the organ {}: all organs voted at once."


@dataclass
class Embedded:
    """Cells with counts of their own, normalised, with their neighbour graph; clusters of any resolution are cut of it.

    ``row``: which of ``cells`` has the counts of each of ``names``, the sample's cells.
    """

    cells: ad.AnnData
    names: pd.Index
    row: np.ndarray
    seed: int


@dataclass
class Clusters:
    """A clustering: each cell's cluster, top genes of each cluster (best first), mean silhouette, cells with counts of
    their own.
    """

    of_cell: pd.Series
    genes: dict[str, list[str]]
    silhouette: float | None
    distinct: int


@dataclass
class Evidence:
    """What the databases say, ready to be asked: votes of genes by table, in the order of asking; cancer genes."""

    tables: dict[str, pd.DataFrame]
    cancer: set[str]


def embed(counts: ad.AnnData, components: int, neighbours: int, seed: int) -> Embedded:
    """Normalise cells (all have counts) to the median library size, take the logarithm, find the nearest neighbours.

    Cells with the same counts are one observation: copies would be a cluster of their own, and its genes chance.
    """
    import scanpy as sc  # seconds, which those who only vote need not wait

    first, row = distinct(counts.X)
    names = counts.obs_names[first]
    cells = ad.AnnData(counts.X[first].astype(np.float32), obs=pd.DataFrame(index=names), var=counts.var[[]].copy())
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    most = min(components, *(n - 1 for n in cells.shape))
    if most >= 1 and cells.n_obs > neighbours:
        sc.pp.pca(cells, n_comps=most, random_state=seed)
        sc.pp.neighbors(cells, n_neighbors=neighbours, use_rep="X_pca", random_state=seed)
    return Embedded(cells, counts.obs_names, row, seed)


def distinct(counts: sparse.spmatrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each content of a matrix, in their order, and for every row which of these it equals."""
    matrix = sparse.csr_matrix(counts)
    matrix.sum_duplicates()
    spans = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    keys = [(matrix.indices[a:b].tobytes(), matrix.data[a:b].tobytes()) for a, b in spans]
    seen: dict[tuple[bytes, bytes], int] = {}
    row = np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=int)
    return np.unique(row, return_index=True)[1], row


def cluster(embedded: Embedded, resolution: float, top: int) -> Clusters:
    """Cut the graph into clusters (Leiden) and rank each one's genes against the rest (Wilcoxon rank sum).

    Parameters
    ----------
    resolution : of Leiden; more makes more clusters
    top : genes of each cluster that are kept, those with a score above 0
    """
    import scanpy as sc

    cells = embedded.cells
    if "neighbors" not in cells.uns:  # too few cells for a graph
        return Clusters(pd.Series("0", embedded.names, dtype=str), {"0": []}, None, cells.n_obs)
    options = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": embedded.seed}
    sc.tl.leiden(cells, resolution=resolution, key_added="cluster", **options)
    labels = cells.obs["cluster"].astype(str)
    sizes = labels.value_counts()
    names = sorted(sizes.index, key=int)
    compared = [name for name in names if sizes[name] > 1]
    genes: dict[str, list[str]] = {name: [] for name in names}
    if len(names) > 1 and compared:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a data frame that scanpy fills column by column
            options = {"method": "wilcoxon", "n_genes": min(top, cells.n_vars)}
            sc.tl.rank_genes_groups(cells, "cluster", groups=compared, **options)
        ranked = cells.uns["rank_genes_groups"]
        for name in compared:
            pairs = zip(ranked["names"][name], ranked["scores"][name], strict=True)
            genes[name] = [str(gene) for gene, score in pairs if score > 0]
    of_cell = pd.Series(labels.to_numpy(str)[embedded.row], embedded.names)
    silhouette = _silhouette(cells.obsm["X_pca"], labels.to_numpy(str), embedded.seed)
    return Clusters(of_cell, genes, silhouette, cells.n_obs)


def _silhouette(points: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    """Mean silhouette of clusters in the principal components, over cells drawn evenly; None for one cluster."""
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    rows = rows if len(rows) <= SILHOUETTE_CELLS else np.sort(rng.choice(rows, SILHOUETTE_CELLS, replace=False))
    different = len(np.unique(labels[rows]))
    return float(silhouette_score(points[rows], labels[rows])) if 1 < different < len(rows) else None


def evidence(entries: pd.DataFrame, organ: str | None, organs: Rules, kind: str, panel: Sequence[str]) -> Evidence:
    """Prepare the vote of a sample: the organ's entries first, then all.

    Parameters
    ----------
    entries : with their categories
    organ, organs : the sheet's word for it, and the rules that say the databases' words
    kind : ``annotate.markers.vote`` (:func:`shest.labels.vote.gene_votes`)
    panel : all genes that were measured
    """
    local = vote.of_organ(entries, organ, organs)
    tables = {f"entries of {organ}": vote.gene_votes(local, kind, panel)} if len(local) else {}
    cancer = set(entries.loc[entries["category"] == NEOPLASTIC, "gene"])
    return Evidence(tables | {"entries of all organs": vote.gene_votes(entries, kind, panel)}, cancer)


def name_clusters(clusters: Clusters, known: Evidence, panel: Sequence[str], settings: Mapping[str, Any]) -> list[dict]:
    """Say what each cluster is, and why.

    Parameters
    ----------
    panel : all genes that were measured
    settings : ``annotate.markers`` of the config

    Returns
    -------
    list
        cluster, cells, category, voted (what the vote decided), score, votes, by (which entries decided, or why none
        did), genes, cancer (of clusters of the refined category: see :class:`shest.labels.vote.CancerEvidence`).
    """
    sizes, found = clusters.of_cell.value_counts(), []
    for name, genes in clusters.genes.items():
        decision = vote.decide(genes, known.tables, settings["top"], settings["min_votes"])
        category, cancer = decision.category, None
        if category == settings["refined"]:
            top = genes[: settings["neoplastic_top"]]
            cancer = vote.cancer_evidence(top, known.cancer, panel, settings["neoplastic_share"])
            rule = settings["neoplastic"], settings["neoplastic_share"], settings["neoplastic_p"]
            category = NEOPLASTIC if vote.is_neoplastic(cancer, *rule) else category
        found.append(
            {
                "cluster": name,
                "cells": int(sizes[name]),
                "category": category,
                "voted": decision.category,
                "score": round(decision.score, 3),
                "votes": decision.votes,
                "by": decision.reason,
                "genes": genes[: settings["top"]],
                "cancer": None if cancer is None else asdict(cancer),
            }
        )
    return found


def call_types(clusters: Clusters, named: Sequence[Mapping], owner: Mapping[str, str]) -> pd.DataFrame:
    """Give every cell what its cluster is.

    Parameters
    ----------
    named : of :func:`name_clusters`
    owner : type of the config by category

    Returns
    -------
    DataFrame
        subtype (the category, Unknown among them), type (missing where no type gathers it), score (the winner's share
        of all votes) and cluster; by cell.
    """
    by_name = {item["cluster"]: item for item in named}
    items = [by_name[name] for name in clusters.of_cell]
    shares = [item["score"] / max(sum(item["votes"].values()), 1e-9) for item in items]
    found = pd.DataFrame({"subtype": [item["category"] for item in items]}, clusters.of_cell.index, dtype=object)
    found["type"] = found["subtype"].map({k: v for k, v in owner.items() if k != UNKNOWN}).astype(object)
    return found.assign(score=np.array(shares, np.float32), cluster=clusters.of_cell)


def owners(types: Mapping[str, Mapping]) -> dict[str, str]:
    """Return the type that gathers each category; a type that names none, nor groups of them, is one itself."""
    return {category: name for name, entry in types.items() for category in entry.get("categories", [name])}


def own_markers(types: Mapping[str, Mapping]) -> pd.DataFrame:
    """Return the entries of the marker genes that the config's types name: they speak for a type's first category."""
    own = {name: entry["markers"] for name, entry in types.items() if entry.get("markers")}
    return databases.of_types({types[name].get("categories", [name])[0]: genes for name, genes in own.items()})


def read_entries(settings: Mapping[str, Any], types: Mapping[str, Mapping]) -> tuple[pd.DataFrame, Rules]:
    """Read what ``annotate.markers`` names: the databases' entries with their categories, and the rules on organs."""
    entries = databases.read_databases(settings["databases"])
    rules = databases.read_rules(settings["categories"], ["pattern", "category"])
    organs = databases.read_rules(settings["organs"], ["pattern", "organs"])
    return vote.with_categories(pd.concat([entries, own_markers(types)], ignore_index=True), rules), organs


def known_genes(panel: Sequence[str], entries: pd.DataFrame) -> dict[str, int]:
    """Count the panel's genes: all, those that some entry names, and the cancer genes."""
    upper = {gene.upper() for gene in panel}
    cancer = entries.loc[entries["category"] == NEOPLASTIC, "gene"]
    return {"sample": len(panel), "known": len(upper & set(entries["gene"])), "cancer": len(upper & set(cancer))}
