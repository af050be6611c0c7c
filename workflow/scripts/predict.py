"""Predicts type and expression of every kept unit of a sample with a fitted system, block by block."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.provenance import versions
from shest.io import predictions
from shest.io.registration import Registration
from shest.systems import base, sources, uncertainty


def part_of(cells, split, sample, role):
    """Return each cell's part of the split; the role of the sample for cells that were not split."""
    if not split:
        return np.full(len(cells), role)
    table = pd.read_parquet(split[0])
    parts = table[table["sample"] == sample].set_index("cell_id")["part"]
    return parts.reindex(cells["cell_id"]).fillna("unlabelled").to_numpy(dtype=str)


def block(trained, x):
    """Predict some units; return what :func:`shest.io.predictions.write` takes."""
    found = trained.system.predict(x)
    named = {"expected": found.expected, "aleatoric": found.aleatoric, "epistemic": found.epistemic}
    if found.type_logits is not None:
        named |= uncertainty.describe(found.type_logits, trained.info["temperature"])
    return {name: np.asarray(value, np.float32) for name, value in named.items() if value is not None}


def main(input, output, params, wildcards):
    trained = base.load(input.model, input.record)
    cells = pd.read_parquet(input.cells)
    cells = cells[cells["kept"]].reset_index(drop=True)
    source = sources.open_source(params.reads, input.source, [(wildcards.sample, c) for c in cells["cell_id"]])
    if len(cells) and params.reads == "embeddings":
        trained.check_fingerprint(source.fingerprint, input.source[0])
    um = Registration.read(input.registration).to_um(cells[["x", "y"]].to_numpy())
    cells["x_um"], cells["y_um"] = um[:, 0], um[:, 1]
    cells["part"], cells["fold"] = part_of(cells, input.split, wildcards.sample, params.role), trained.info["fold"]
    provenance = {
        "sample": wildcards.sample,
        "protocol": wildcards.protocol,
        "system": wildcards.system,
        "encoder": trained.info["encoder"] or "",
        "fingerprint": trained.info["fingerprint"],
        "unit": trained.info["expression_unit"],
        "model_sha256": files.sha256(input.model),
        "versions": versions(),
    }

    def blocks(advance):
        for start in range(0, len(cells), predictions.ROWS):
            rows = np.arange(start, min(start + predictions.ROWS, len(cells)))
            yield block(trained, source.take(rows))
            advance(len(rows))

    with (
        console.track(len(cells), f"predict {wildcards.sample}") as advance,
        files.atomic_write(output.predictions) as tmp_path,
    ):
        table = cells.set_index("cell_id")
        predictions.write(tmp_path, blocks(advance), table, trained.classes, trained.genes, provenance)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
