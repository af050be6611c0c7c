"""Tables 1 and S1: the data sets of the run, and the subtypes that each type gathers."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.io.registration import Registration


def kept_of(path):
    """Whether each unit of a sample is kept; none of a sample without such units."""
    return pd.read_parquet(path, columns=["kept"])["kept"] if path else pd.Series(dtype=bool)


def data_set(sample, row, ingest, registration, cells, spots, annotation):
    """One row of table 1."""
    facts = files.read_json(ingest)
    kept, kept_spots = kept_of(cells), kept_of(spots)
    labels = pd.read_parquet(annotation, columns=["cell_type"])["cell_type"].notna().sum() if annotation else None
    height, width = facts["he_shape"]
    return {
        "sample": sample,
        "role": row["role"],
        "platform": row["platform"],
        "organ": row["organ"],
        "panel": facts.get("panel"),
        "analysis_version": facts.get("analysis_version"),
        "genes": facts.get("genes"),
        "cells": len(kept),
        "kept_cells": int(kept.sum()),
        "spots": len(kept_spots) if spots else None,
        "kept_spots": int(kept_spots.sum()) if spots else None,
        "labelled_cells": labels,
        "pathologist_table": bool(row["annotation"]),
        "he_width_px": width,
        "he_height_px": height,
        "he_um_per_px": round(sum(Registration.read(registration).mpp) / 2, 4),
    }


def main(input, output, params):
    named = {kind: {Path(path).parent.name: path for path in input[kind]} for kind in ("cells", "spots", "annotations")}
    parts = zip(params.samples.items(), input.ingests, input.registrations, strict=True)
    rows = [data_set(name, row, *paths, *(of.get(name) for of in named.values())) for (name, row), *paths in parts]
    subtypes = [(name, s) for name, members in params.members.items() for s in members]
    annotated = [pd.read_parquet(path, columns=["subtype", "reason"]) for path in input.annotations]
    cells = pd.concat(annotated or [pd.DataFrame(columns=["subtype", "reason"])])
    counts = cells["subtype"].value_counts()
    labelled = cells.loc[cells["reason"] == "labelled", "subtype"].value_counts()
    table = pd.DataFrame(subtypes, columns=["cell_type", "subtype"])
    table["cells"] = table["subtype"].map(counts).fillna(0).astype(int)
    table["labelled_cells"] = table["subtype"].map(labelled).fillna(0).astype(int)
    datasets = pd.DataFrame(rows).convert_dtypes()
    if not input.spots:
        datasets = datasets.drop(columns=["spots", "kept_spots"])
    for path, frame in ((output.datasets, datasets), (output.subtypes, table)):
        with files.atomic_write(path) as tmp_path:
            frame.to_csv(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
