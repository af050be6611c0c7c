"""Judges every spot by its place, its counts and the tissue around it; writes spots.parquet."""

import anndata as ad
import numpy as np

from shest.core import console, files
from shest.io import store
from shest.io.registration import Registration
from shest.tissue import spots
from shest.tissue.segment.regions import find_regions


def main(input, output, params):
    mpp, scales = Registration.read(input.registration).mpp, store.image_scales(input.store)
    table = ad.read_zarr(f"{input.store}/tables/{store.TABLE}")
    places = table.obs[["spot_id", "x", "y", "array_row", "array_col", "on_tissue"]].reset_index(drop=True)
    places = places.assign(
        spot_id=places["spot_id"].astype(str),
        diameter_um=files.read_json(input.ingest)["diameter_um"],
        total=np.asarray(table.X.sum(axis=1)).ravel(),
    )
    judged = spots.spot_table(
        places, find_regions(scales, mpp), scales[0].shape[1:], mpp, params.side_um, params.min_tissue
    )
    for reason, number in spots.reasons(judged).items():
        console.log.info(f"{reason}: {number:,}")
    with files.atomic_write(output.spots) as tmp_path:
        judged.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
