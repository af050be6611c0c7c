"""Predicts type and expression of every kept cell of a sample, block by block."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.provenance import versions
from shest.encode import cache
from shest.io import predictions
from shest.systems.shest.model import check_fingerprint, load_model, predict_block


def part_of(cells, split, sample, role):
    """Return each cell's part of the split; the role of the sample for cells that were not split."""
    if not split:
        return np.full(len(cells), role)
    table = pd.read_parquet(split[0])
    parts = table[table["sample"] == sample].set_index("cell_id")["part"]
    return parts.reindex(cells["cell_id"]).fillna("unlabelled").to_numpy(dtype=str)


def main(input, output, params, wildcards):
    model = load_model(input.model, input.record)
    cells = pd.read_parquet(input.cells)
    cells = cells[cells["kept"]].reset_index(drop=True)
    embeddings = cache.Embeddings([input.embeddings], [(wildcards.sample, c) for c in cells["cell_id"]])
    if len(cells):
        check_fingerprint(model, embeddings.fingerprint, input.embeddings)
    to_um = np.array(files.read_json(input.registration)["he_to_um"])
    um = cells[["x", "y"]].to_numpy() @ to_um[:2, :2].T + to_um[:2, 2]
    cells["x_um"], cells["y_um"] = um[:, 0], um[:, 1]
    cells["part"] = part_of(cells, input.split, wildcards.sample, params.role)
    provenance = {
        "sample": wildcards.sample,
        "protocol": wildcards.protocol,
        "encoder": wildcards.encoder,
        "fingerprint": model.info["fingerprint"],
        "model_sha256": files.sha256(input.model),
        "versions": versions(),
    }

    def blocks(advance):
        for start in range(0, len(cells), predictions.ROWS):
            rows = np.arange(start, min(start + predictions.ROWS, len(cells)))
            yield predict_block(model, embeddings.take(rows))
            advance(len(rows))

    with (
        console.track(len(cells), f"predict {wildcards.sample}") as advance,
        files.atomic_write(output.predictions) as tmp_path,
    ):
        predictions.write(tmp_path, blocks(advance), cells, model, provenance)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
