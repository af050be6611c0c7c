"""Sums what a system of cells expects over the cells of each spot: what it says of spots."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.provenance import versions
from shest.io import predictions
from shest.io.expression import scale_of
from shest.labels.held_out import kept_units, parts_and_folds
from shest.tissue.spots import membership


def main(input, output, params, wildcards):
    found = ad.read_h5ad(input.predictions, backed="r")
    spots = kept_units(input.spots, input.registration)
    spots["part"], spots["fold"], _ = parts_and_folds(spots, input.splits, params, wildcards)
    spot_of = pd.read_parquet(input.members).set_index("cell_id")["spot_id"].reindex(found.obs_names)
    sums = membership(pd.Index(spots["cell_id"]).get_indexer(spot_of), len(spots))
    console.log.info(f"{int(sums.sum()):,} of {found.n_obs:,} cells lie in {len(spots):,} spots")
    genes = list(found.var_names)
    if scale_of(found.uns["unit"]) != "counts":
        console.log.warning(f"WARNING {found.uns['unit']}: logarithms cannot be summed; no expression of spots")
        genes = []
    step = predictions.ROWS
    summed = np.zeros((len(spots), len(genes)), np.float32)
    for start in range(0, found.n_obs if genes else 0, step):
        summed += sums[:, start : start + step] @ found.X[start : start + step]
    facts = dict(found.uns) | {"unit": f"sum over cells of {found.uns['unit']}", "versions": versions()}
    blocks = ({"expected": summed[start : start + step]} for start in range(0, len(spots), step))
    units = spots.set_index("cell_id").rename_axis("spot_id")
    with files.atomic_write(output.predictions) as tmp_path:
        predictions.write(tmp_path, blocks, units, [], genes, facts)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
