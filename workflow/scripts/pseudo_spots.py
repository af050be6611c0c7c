"""Lays a grid of spots over the cells of a bundle: their summed counts, number and types, and which spot each is in."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.io import ingest, store
from shest.io.counts import read_counts
from shest.io.registration import Registration
from shest.tissue import spots
from shest.tissue.segment.regions import find_regions


def main(input, output, params, threads):
    registration, scales = Registration.read(input.registration), store.image_scales(input.store)
    counts, genes, cell_id = read_counts(input.store)
    centroids = np.asarray(ad.read_zarr(f"{input.store}/tables/{store.TABLE}").obsm["spatial"], float)
    places, spot_of = spots.lay_grid(centroids, params.diameter_um, params.pitch_um)
    summed = spots.membership(spot_of, len(places)) @ counts
    px = registration.to_px(places[["x_um", "y_um"]].to_numpy())
    places = places.assign(
        x=px[:, 0],
        y=px[:, 1],
        diameter_um=params.diameter_um,
        on_tissue=True,
        total=np.asarray(summed.sum(axis=1)).ravel(),
        n_cells=np.bincount(spot_of[spot_of >= 0], minlength=len(places)),
    )
    if input.annotation:
        labels = pd.read_parquet(input.annotation[0]).set_index("cell_id")["cell_type"].reindex(cell_id)
        places = places.assign(**spots.composition(spot_of, len(places), labels))
    centres = places[["x_um", "y_um"]].to_numpy()
    judged = spots.spot_table(
        places.drop(columns=["x_um", "y_um"]),
        find_regions(scales, registration.mpp),
        scales[0].shape[1:],
        registration.mpp,
        params.side_um,
        params.min_tissue,
    )
    for reason, number in spots.reasons(judged).items():
        console.log.info(f"{reason}: {number:,}")
    sdata = ingest.spot_sdata(places[["spot_id"]], summed, genes, centres, params.diameter_um)
    ingest.write_store(sdata, output.store, threads)
    inside = spot_of >= 0
    cells = pd.DataFrame({"cell_id": cell_id[inside], "spot_id": places["spot_id"].to_numpy()[spot_of[inside]]})
    for path, table in ((output.cells, cells), (output.spots, judged)):
        with files.atomic_write(path) as tmp_path:
            table.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
