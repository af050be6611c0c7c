"""Checks of what cells are labelled by: the single-cell reference, and the pathologists' tables.

What stops a run and what does not. A run stops where a result would be wrong, or missing without a word: a file that
cannot be read, cells that do not match, a type of the config that the reference cannot give. Names of subtypes that
the reference lacks are only warned of while their type has others: an atlas is often used in part. A group of a
pathologist's table must be a type of the config: one that is misspelt would take the labels of all its cells away.
Cells that he did not want to judge, or that belong to no type, have an empty group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from shest.core.errors import Findings, InputError, did_you_mean, one_line
from shest.io.genes import Genes, pair
from shest.io.marker_databases import read_databases, read_rules
from shest.labels import annotate, markers, vote

EMPTY_CATEGORY = "Correct its name, or add it to annotate.markers.categories"
FETCH = "Fetch or export the file again"
PROBED = 256  # rows of the reference whose values are looked at


@dataclass
class ReferenceHeader:
    """What the reference says of itself: cells of each subtype, genes, counts above 0."""

    subtypes: dict[str, int] = field(default_factory=dict)
    genes: Genes | None = None
    values: int = 0

    def summary(self) -> dict[str, int]:
        """Return what a record of the checks says of the reference."""
        genes = 0 if self.genes is None else len(self.genes)
        return {"cells": sum(self.subtypes.values()), "subtypes": len(self.subtypes), "genes": genes}


def check_reference(
    path: str | Path, settings: Mapping[str, Any], types: Mapping[str, list[str]], prior: Any, findings: Findings
) -> ReferenceHeader:
    """Check the reference by itself, and whether it has the config's subtypes.

    Parameters
    ----------
    settings
        Section ``reference`` of the config.
    types
        Subtypes by type.
    prior
        ``annotate.prior`` of the config.
    """
    header = read_reference(path, settings, findings)
    check_subtypes(path, types, prior, header.subtypes, findings)
    return header


def read_reference(path: str | Path, settings: Mapping[str, Any], findings: Findings) -> ReferenceHeader:
    """Read labels, genes and some values of the reference, not its matrix, and note what is wrong with them."""
    header = ReferenceHeader()
    try:
        with h5py.File(path) as file:
            obs, var = ad.io.read_elem(file["obs"]), ad.io.read_elem(file["var"])
            kept = findings.attempt(path, FETCH, annotate.included, path, obs, settings["exclude"])
            kept = np.ones(len(obs), bool) if kept is None else kept
            labels = findings.attempt(path, FETCH, annotate.reference_labels, path, obs[kept], settings["label_key"])
            header.genes = findings.attempt(path, FETCH, annotate.reference_genes, path, var, settings["symbol_key"])
            header.values = findings.attempt(path, FETCH, probe_counts, path, file, settings["counts"], kept) or 0
    except FileNotFoundError:
        findings.problem(path, "the reference is not there", "Set reference.path to an .h5ad file")
        return header
    except Exception as error:
        findings.problem(path, f"no AnnData file that can be read ({one_line(error)})", FETCH)
        return header
    if labels is not None:
        header.subtypes = {str(k): int(v) for k, v in labels.value_counts().items()}
    return header


def probe_counts(path: str | Path, file: h5py.File, where: str, kept: np.ndarray) -> int:
    """Look whether values of kept cells are whole numbers; return how many values the matrix has.

    Rows are taken evenly from the whole matrix; annotation looks at all of them.
    """
    name = {"auto": "raw/X" if "raw/X" in file else "X", "raw": "raw/X", "X": "X"}.get(where, f"layers/{where}")
    if name not in file:
        raise InputError(path, f"no matrix {name}", "Set reference.counts to auto, X, raw or the name of a layer")
    matrix, rows = file[name], np.flatnonzero(kept)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, PROBED).astype(int))] if len(rows) else rows
    if isinstance(matrix, h5py.Dataset):
        annotate.check_whole(path, matrix[rows] if len(rows) else np.empty(0))
        return int(matrix.size)
    by_row = matrix.attrs.get("encoding-type", "csr_matrix") == "csr_matrix"
    pointers = matrix["indptr"][:]
    if by_row and len(pointers) != len(kept) + 1:
        raise InputError(path, f"{name} has {len(pointers) - 1:,} rows for {len(kept):,} cells", FETCH)
    if by_row:
        parts = [matrix["data"][pointers[row] : pointers[row + 1]] for row in rows]
    elif kept.all():  # by column: which values are of cells that are left out cannot be told
        starts = pointers[np.linspace(0, len(pointers) - 2, 64, dtype=int)]
        parts = [matrix["data"][start : start + 1000] for start in starts]
    else:
        parts = []
    annotate.check_whole(path, np.concatenate(parts) if parts else np.empty(0))
    return len(matrix["data"])


def check_subtypes(
    path: str | Path, types: Mapping[str, list[str]], prior: Any, known: Mapping[str, int], findings: Findings
) -> None:
    """Compare the config's subtypes with the reference's labels (``known``: cells by label)."""
    if not known:
        return
    for name, members in types.items():
        missing = [subtype for subtype in members if subtype not in known]
        if len(missing) == len(members):
            problem = f"the reference has none of its subtypes ({', '.join(missing[:3])})"
            findings.problem(f"cell_types.{name}", problem, did_you_mean(missing[0], known))
        else:
            for subtype in missing:
                findings.warn(f"cell_types.{name}", f"{path} has no subtype {subtype}", did_you_mean(subtype, known))
    if isinstance(prior, dict):
        for subtype in sorted(set(prior) - set(known)):
            findings.problem("annotate.prior", f"the reference has no subtype {subtype}", did_you_mean(subtype, known))


def check_markers(section: Mapping[str, Any], types: Mapping[str, Mapping], findings: Findings) -> dict[str, Any]:
    """Check the databases of marker genes, and whether they know the categories that the config's types gather.

    Parameters
    ----------
    section
        ``annotate.markers`` of the config, paths resolved.
    types
        ``cell_types`` of the config.

    Returns
    -------
    dict
        genes and entries by database, names by category, names that no pattern knows with their entries.
    """
    rules = findings.attempt(section["categories"], FETCH, read_rules, section["categories"], ["pattern", "category"])
    findings.attempt(section["organs"], FETCH, read_rules, section["organs"], ["pattern", "organs"])
    parts = [
        findings.attempt(path, FETCH, read_databases, [{"format": source["format"], "paths": [path]}])
        for source in section["databases"]
        for path in source["paths"]
    ]
    if rules is None or any(part is None for part in parts):
        return {}
    entries = vote.with_categories(pd.concat([*parts, markers.own_markers(types)], ignore_index=True), rules)
    known = {*entries["category"].dropna(), section["refined"], vote.NEOPLASTIC}
    for name, entry in types.items():
        for category in entry.get("categories") or [name]:
            if category not in known:
                findings.problem(f"cell_types.{name}", f"no marker gene is of the category {category}", EMPTY_CATEGORY)
    unknown = vote.unmapped(entries)
    names = entries.drop_duplicates("cell_type")["category"].fillna("not known").value_counts()
    return {
        "databases": {
            str(name): {"entries": len(part), "genes": int(part["gene"].nunique())}
            for name, part in entries.groupby("database")
        },
        "names": {str(name): int(n) for name, n in names.items()},
        "names_not_known": unknown,
    }


def check_genes(
    path: str | Path, reference: Genes | None, least: int, samples: Mapping[str, Genes], findings: Findings
) -> dict[str, dict[str, int]]:
    """Note samples that share fewer than ``least`` genes with the reference; ``samples``: their genes.

    Returns by sample how many genes were joined, and by what (:meth:`shest.io.genes.Pairs.summary`).
    """
    found = {}
    for name, panel in samples.items():
        if reference is None or not len(panel):
            continue
        pairs = pair(panel, reference)
        found[name] = pairs.summary(len(panel))
        if len(pairs.first) < least:
            findings.problem(
                path,
                f"shares {len(pairs.first)} of {len(panel)} genes with sample {name} "
                f"(reference.min_shared_genes: {least}); it has {', '.join(reference.symbols[:3])}, "
                f"the sample {', '.join(panel.symbols[:3])}",
                "Set reference.symbol_key to the column with gene symbols",
            )
    return found


def check_table(
    path: str | Path, cell_ids: np.ndarray | None, owners: Mapping[str, str], findings: Findings
) -> pd.Series | None:
    """Check a pathologist's table against the sample's cells and the config's types; return cells by type.

    Parameters
    ----------
    cell_ids
        (n,) str, or None where the sample's files could not be read.
    owners
        Type by group (:func:`shest.labels.annotate.group_owners`).
    """
    table = findings.attempt(path, "Write a CSV: cell_id,group", annotate.parse_table, path)
    if table is None:
        return None
    if cell_ids is not None:
        findings.problems += annotate.table_problems(path, table, cell_ids)
    counts = table["group"].dropna().str.strip().value_counts()
    for group, cells in counts[~counts.index.isin(list(owners))].items():
        findings.problem(
            path,
            f"{cells:,} cells of a type {group}, which cell_types does not have",
            f"{did_you_mean(group, owners)} Leave the group empty for cells of no type",
        )
    return counts.groupby(lambda group: owners.get(group, group)).sum()


def check_enough(counts: Mapping[str, pd.Series], types: Sequence[str], min_cells: int, findings: Findings) -> None:
    """Note tables that leave fewer than two types to train on; ``counts``: cells by group, by table."""
    total = pd.concat(list(counts.values())).groupby(level=0).sum()
    enough = [name for name in types if total.get(name, 0) >= min_cells]
    if len(enough) < 2:
        numbers = ", ".join(f"{name} {int(total.get(name, 0)):,}" for name in types)
        findings.problem(
            ", ".join(counts),
            f"fewer than two types with {min_cells} cells (train.min_cells) among the training samples: {numbers}",
            "Label more cells, or check the names of the groups",
        )
