"""What a sample's labels rest on: compositions, how far their sources agree, and what is to be doubted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from shest.labels.annotate import WORDS, label
from shest.labels.markers import Clusters
from shest.labels.vote import UNKNOWN

NO_TYPE = "no type"
PULLED = 0.1  # total variation distance of labels and estimate above which the reference has shaped the labels
UNKNOWN_SHARE = 0.2  # share of cells in clusters that nothing names above which that is doubted
BY_CHANCE = 0.2  # probability of passing the neoplastic test with random genes above which its word is doubted
COPIES = 0.5  # share of cells with counts of their own below which clusters are doubted
MISSED = 0.05  # share of the transcripts above which a type that a table lacks is missed
DOUBTED = 2 / 3  # agreement below which two sources of labels are doubted


def summarise(
    cell_ids: np.ndarray,
    calls: dict[str, pd.DataFrame],
    groups: pd.Series | None,
    method: str,
    shares: dict[str, pd.Series],
    prior: str,
    transcripts: pd.Series,
    subtypes: dict[str, list[str]],
) -> dict[str, Any]:
    """Return how a sample was labelled, as plain values.

    Parameters
    ----------
    cell_ids : all cells
    calls : what ``tacco`` and ``mixture`` called, of the same cells
    groups : the pathologist's type by cell_id, or None
    method : whose calls are the labels
    shares : share of the transcripts by subtype: of the ``prior``, of the ``reference``, and as ``estimated``
    prior : name of the prior
    transcripts : by cell_id, of the cells that were called
    subtypes : subtypes by type
    """
    types = {name: called["type"].reindex(transcripts.index).fillna(NO_TYPE) for name, called in calls.items()}
    owner = {subtype: name for name, members in subtypes.items() for subtype in members}
    by_type = {name: part.groupby(lambda s: owner.get(s, NO_TYPE)).sum() for name, part in shares.items()}
    by_type["labels"] = transcripts.groupby(types[method]).sum() / transcripts.sum()
    found = {
        "method": method,
        "prior": prior,
        "cells": len(cell_ids),
        "with_counts": len(transcripts),
        "shares": {name: part.to_dict() for name, part in shares.items()},
        "types": {name: part.to_dict() for name, part in by_type.items()},
        "agreement": {
            "methods": agreement(types["tacco"], types["mixture"]),
            "table": _with_table(types[method], groups),
        },
        "labelled": {
            word: int(label(cell_ids, calls[method], groups, method, word)["cell_type"].notna().sum()) for word in WORDS
        },
    }
    return found | {"doubts": doubts(found, by_type)}


def summarise_markers(
    cell_ids: np.ndarray,
    called: pd.DataFrame,
    groups: pd.Series | None,
    transcripts: pd.Series,
    clusters: Clusters,
    named: list[dict],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return how a sample was labelled by marker genes, as plain values.

    Parameters
    ----------
    cell_ids : all cells
    called : of :func:`shest.labels.markers.call_types`
    groups : the pathologist's type by cell_id, or None
    transcripts : by cell_id, of the cells that were called
    clusters, named : the clustering, and what each cluster is
    settings : ``annotate.markers`` of the config
    """
    types = called["type"].reindex(transcripts.index).fillna(NO_TYPE)
    found = {
        "method": "markers",
        "prior": None,
        "cells": len(cell_ids),
        "with_counts": len(transcripts),
        "distinct": clusters.distinct,
        "types": {"labels": (transcripts.groupby(types).sum() / transcripts.sum()).to_dict()},
        "categories": {str(k): int(v) for k, v in called["subtype"].value_counts().items()},
        "agreement": {"methods": None, "table": _with_table(types, groups)},
        "labelled": {
            word: int(label(cell_ids, called, groups, "marker", word)["cell_type"].notna().sum()) for word in WORDS
        },
        "silhouette": clusters.silhouette,
        "resolution": settings["resolution"],
        "clusters": named,
    }
    return found | {"doubts": marker_doubts(found, settings)}


def marker_doubts(summary: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """List in sentences what speaks against labels by marker genes (:func:`summarise_markers`)."""
    said, cells = _doubted_by_table(summary["agreement"]["table"]), summary["with_counts"]
    unknown = summary["categories"].get(UNKNOWN, 0) / max(cells, 1)
    if unknown > UNKNOWN_SHARE:
        said.append(
            f"{unknown:.0%} of the cells are in clusters that the marker genes do not name, and have no type. Compare "
            "other annotate.markers.databases, or a lower resolution."
        )
    if summary["distinct"] < COPIES * cells:
        said.append(
            f"Only {summary['distinct']:,} of {cells:,} cells have counts of their own: there is less to cluster than "
            "there seems to be."
        )
    chances = [item["cancer"]["chance"] for item in summary["clusters"] if item["cancer"]]
    if chances and settings["neoplastic"] == "ratio" and max(chances) > BY_CHANCE:
        said.append(
            f"Neoplastic says little on this panel: as many genes drawn from it at random pass the published test with "
            f"probability {max(chances):.2f}. Compare annotate.markers.neoplastic: enrichment."
        )
    return said


def _with_table(types: pd.Series, groups: pd.Series | None) -> dict[str, Any] | None:
    """Compare types with the pathologist's, of the cells to which both give one; ``types``: NO_TYPE where missing."""
    if groups is None:
        return None
    typed = types[types != NO_TYPE]
    both = groups.dropna().index.intersection(typed.index)
    return agreement(groups[both], typed[both])


def _doubted_by_table(table: dict[str, Any] | None) -> list[str]:
    if not (table and table["cells"] and table["share"] < DOUBTED):
        return []
    return [
        f"The table disagrees with {1 - table['share']:.0%} of the {table['cells']:,} types that expression gives "
        "to its cells."
    ]


def agreement(first: pd.Series, second: pd.Series) -> dict[str, Any]:
    """Return of how many cells two series (by cell, nothing missing) say the same: of all, and by the first's types."""
    same = (first == second).groupby(first).agg(["size", "mean"])
    by_type = {name: {"cells": int(n), "share": float(share)} for name, n, share in same.itertuples()}
    return {"cells": len(first), "share": float((first == second).mean()) if len(first) else None, "by_type": by_type}


def doubts(summary: dict[str, Any], by_type: dict[str, pd.Series]) -> list[str]:
    """List in sentences what speaks against the labels; ``by_type``: compositions (:func:`summarise`)."""
    said, methods, table = [], summary["agreement"]["methods"], summary["agreement"]["table"]
    prior = summary["prior"] if summary["method"] == "tacco" else None  # the mixture has none but its own
    if prior == "reference":
        off, away = (distance(by_type["estimated"], by_type[name]) for name in ("labels", "reference"))
        if off > PULLED:
            said.append(
                f"The labels follow the reference's composition: they differ from the sample's own, as estimated, in "
                f"{off:.0%} of the transcripts (the reference in {away:.0%}). Compare annotate.prior: estimated."
            )
    if prior == "table":
        missed = by_type["estimated"].drop([NO_TYPE, *by_type["prior"].index], errors="ignore")
        said += [
            f"The table has no {name}, so TACCO calls none; the mixture gives it {share:.0%} of the transcripts. "
            "Compare annotate.prior: estimated."
            for name, share in missed[missed > MISSED].items()
        ]
    said += _doubted_by_table(table)
    if methods["cells"] and methods["share"] < DOUBTED:
        said.append(f"TACCO and the mixture disagree on {1 - methods['share']:.0%} of {methods['cells']:,} cells.")
    return said


def distance(first: pd.Series, second: pd.Series) -> float:
    """Return the total variation distance of two compositions."""
    return float(first.sub(second, fill_value=0).abs().sum() / 2)
