"""Figure 6: annotated types, predicted types and H&E of the external samples."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.draw import panels, style
from shest.io import store

LETTERS = "ABCDEF"
OVERVIEW_PX = 1500


def draw(axes, letters, sample, palette, predictions, annotation, registration, folder):
    """One row: the annotation, the prediction, the H&E, all in the orientation of the H&E."""
    predicted = ad.read_h5ad(predictions, backed="r")
    labels = pd.read_parquet(annotation).set_index("cell_id")["cell_type"]
    found = files.read_json(registration)
    mpp = found["mpp_x"], found["mpp_y"]
    xy = np.asarray(predicted.obsm["pixel"]) * mpp
    image, factor = store.overview(folder, OVERVIEW_PX)
    extent = image.shape[1] * factor * mpp[0], image.shape[0] * factor * mpp[1]
    kinds = {"annotated": labels.reindex(predicted.obs_names), "predicted": predicted.obs["cell_type"].astype(str)}
    data = {}
    for axis, letter, (name, kind) in zip(axes, letters, kinds.items(), strict=False):
        data[letter] = panels.cell_map(axis, xy, kind, palette, extent, f"{sample}, {name}")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, fontsize=6, frameon=False, markerscale=2)
    axes[2].imshow(image, extent=(0, extent[0], extent[1], 0))
    axes[2].set(title=f"{sample}, H&E ({extent[0] / 1000:.2f} × {extent[1] / 1000:.2f} mm)")
    panels.scale_bar(axes[2], panels.round_length(extent[0]))
    axes[2].set_axis_off()
    return data


def main(input, output, params):
    if not params.samples:
        style.without(LETTERS, "no external sample in the sheet", output.png, output.data)
        return
    palette = style.colours(params.types, params.palette)
    figure, axes = style.plt.subplots(2, 3, figsize=(12, 9), layout="compressed")
    parts = (input.predictions, input.annotations, input.registrations, params.stores)
    data = {}
    for row, (sample, *paths) in enumerate(zip(params.samples, *parts, strict=True)):
        data |= draw(axes[row], LETTERS[3 * row :], sample, palette, *paths)
    for axis in axes.flat[3 * len(params.samples) :]:
        panels.absent(axis, "no second external sample in the sheet")
    for axis, name in zip(axes.flat, LETTERS, strict=True):
        style.letter(axis, name)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
