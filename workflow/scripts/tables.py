"""Tables 1 and S1: the data sets of the run, and the subtypes that each type gathers."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.io.registration import Registration


def data_set(sample, row, ingest, cells, registration, annotation):
    """One row of table 1."""
    facts = files.read_json(ingest)
    kept = pd.read_parquet(cells, columns=["kept"])["kept"]
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
        "labelled_cells": labels,
        "pathologist_table": bool(row["annotation"]),
        "he_width_px": width,
        "he_height_px": height,
        "he_um_per_px": round(sum(Registration.read(registration).mpp) / 2, 4),
    }


def main(input, output, params):
    annotations = {Path(path).parent.name: path for path in input.annotations}
    parts = zip(params.samples.items(), input.ingests, input.cells, input.registrations, strict=True)
    rows = [data_set(name, row, *paths, annotations.get(name)) for (name, row), *paths in parts]
    subtypes = [(name, s) for name, members in params.members.items() for s in members]
    cells = pd.concat([pd.read_parquet(path, columns=["subtype", "reason"]) for path in input.annotations])
    counts = cells["subtype"].value_counts()
    labelled = cells.loc[cells["reason"] == "labelled", "subtype"].value_counts()
    table = pd.DataFrame(subtypes, columns=["cell_type", "subtype"])
    table["cells"] = table["subtype"].map(counts).fillna(0).astype(int)
    table["labelled_cells"] = table["subtype"].map(labelled).fillna(0).astype(int)
    for path, frame in ((output.datasets, pd.DataFrame(rows).convert_dtypes()), (output.subtypes, table)):
        with files.atomic_write(path) as tmp_path:
            frame.to_csv(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
