"""Figure 6: annotated types, predicted types and H&E of the external samples."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import panels, style
from shest.io import store
from shest.io.registration import Registration

OVERVIEW_PX = 1500


def draw(axes, letters, sample, palette, predictions, annotation, registration, folder):
    """One row: the annotation, the prediction, the H&E, all in the orientation of the H&E."""
    predicted = ad.read_h5ad(predictions, backed="r")
    labels = pd.read_parquet(annotation).set_index("cell_id")["cell_type"]
    mpp = Registration.read(registration).mpp
    xy = np.asarray(predicted.obsm["pixel"]) * mpp
    image, factor = store.overview(folder, OVERVIEW_PX)
    extent = image.shape[1] * factor * mpp[0], image.shape[0] * factor * mpp[1]
    types = {"annotated": labels.reindex(predicted.obs_names), "predicted": predicted.obs["cell_type"]}
    data = {}
    for axis, letter, (name, cell_type) in zip(axes, letters, types.items(), strict=False):
        if cell_type.isna().all():
            panels.placeholder(axis, f"{sample}: no type {name}")
            continue
        data[letter] = panels.cell_map(axis, xy, cell_type, palette, extent, f"{sample}, {name}")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, fontsize=6, frameon=False, markerscale=2)
    axes[2].imshow(image, extent=(0, extent[0], extent[1], 0))
    axes[2].set(title=f"{sample}, H&E ({extent[0] / 1000:.2f} × {extent[1] / 1000:.2f} mm)")
    panels.scale_bar(axes[2], panels.round_length(extent[0]))
    axes[2].set_axis_off()
    return data


def main(input, output, params):
    palette = style.colours(params.types, params.palette)
    figure, axes = style.plt.subplots(2, 3, figsize=(12, 9), layout="compressed")
    paths = (input.predictions, input.annotations, input.registrations, input.stores)
    data = {}
    for row, (sample, *of_sample) in enumerate(zip(params.samples, *paths, strict=True)):
        data |= draw(axes[row], params.panels[3 * row :], sample, palette, *of_sample)
    for axis in axes.flat[3 * len(params.samples) :]:
        panels.placeholder(axis, "no second external sample in the sheet")
    style.panel_labels(axes.flat, params.panels)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
