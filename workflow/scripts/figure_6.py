"""Figure 6: annotated types, predicted types and H&E of every labelled sample."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from shest import console, figures, files, store


def main(input, output, params):
    palette = figures.colours(params.types, params.palette)
    figure, axes = plt.subplots(len(params.samples), 3, figsize=(12, 4.2 * len(params.samples)), squeeze=False)
    data = {}
    for row, sample in enumerate(params.samples):
        predicted = ad.read_h5ad(input.predictions[row], backed="r")
        labels = pd.read_parquet(input.annotations[row]).set_index("cell_id")["cell_type"]
        registration = files.read_json(input.registrations[row])
        mpp = registration["mpp_x"], registration["mpp_y"]
        xy = np.asarray(predicted.obsm["pixel"]) * mpp  # µm in the orientation of the H&E
        actual = labels.reindex(predicted.obs_names)
        kinds = {"annotated": actual, "predicted": predicted.obs["cell_type"].astype(str)}
        image, factor = store.overview(params.stores[row], 1500)
        extent = image.shape[1] * factor * mpp[0], image.shape[0] * factor * mpp[1]
        for column, (name, kind) in enumerate(kinds.items()):
            frame = figures.cell_map(axes[row, column], xy, kind, palette, extent, f"{sample}, {name}")
            data[f"{sample}_{name}"] = frame
        axes[row, 0].legend(loc="upper left", bbox_to_anchor=(0, -0.02), ncols=3, fontsize=6, frameon=False)
        axes[row, 2].imshow(image, extent=(0, extent[0], extent[1], 0))
        axes[row, 2].set(title=f"{sample}, H&E")
        figures.scale_bar(axes[row, 2], figures.round_length(extent[0]))
        axes[row, 2].set_axis_off()
    for axis, name in zip(axes.flat, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", strict=False):
        figures.letter(axis, name)
    figures.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
