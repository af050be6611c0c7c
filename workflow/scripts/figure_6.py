"""Figure 6: annotated types, predicted types and H&E of the external samples."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import layout, panels, style
from shest.draw.layout import Panel
from shest.io import store
from shest.io.registration import Registration

OVERVIEW_PX, TALLEST_ROW_MM = 1500, 100


def read(sample, predictions, annotation, registration, folder):
    """Types of the cells as annotated and as predicted, their places in µm, and the H&E with its extent."""
    predicted = ad.read_h5ad(predictions, backed="r")
    labels = pd.read_parquet(annotation).set_index("cell_id")["cell_type"]
    mpp = Registration.read(registration).mpp
    image, factor = store.overview(folder, OVERVIEW_PX)
    return {
        "sample": sample,
        "xy": np.asarray(predicted.obsm["pixel"]) * mpp,
        "types": {"annotated": labels.reindex(predicted.obs_names), "predicted": predicted.obs["cell_type"]},
        "image": image,
        "extent": (image.shape[1] * factor * mpp[0], image.shape[0] * factor * mpp[1]),
    }


def draw(axes, letters, known, shown, palette):
    """One row: the annotation, the prediction, the H&E, all in the orientation of the H&E."""
    data, extent = {}, known["extent"]
    for axis, letter, name in zip(axes, letters, shown, strict=False):
        title = f"{known['sample']}, {name}"
        data[letter] = panels.cell_map(axis, known["xy"], known["types"][name], palette, extent, title)
    axes[-1].imshow(known["image"], extent=(0, extent[0], extent[1], 0))
    axes[-1].set(title=f"{known['sample']}, H&E ({extent[0] / 1000:.2f} × {extent[1] / 1000:.2f} mm)")
    panels.scale_bar(axes[-1], panels.round_length(extent[0]))
    axes[-1].set_axis_off()
    return data


def row_of(letters, known, palette):
    """Height and panels of a sample's row; a map without a type is left out."""
    missing = [name for name, cell_type in known["types"].items() if cell_type.isna().all()]
    shown = [name for name in known["types"] if name not in missing]
    kept = "".join(letter for letter, name in zip(letters, known["types"], strict=False) if name in shown) + letters[2]
    height = layout.WIDTH_MM / len(kept) * known["extent"][1] / known["extent"][0] + 8
    drawn = [
        Panel(kept, lambda axes: draw(axes[0], kept, known, shown, palette), shape=(1, len(kept))),
        *(
            Panel(letters[list(known["types"]).index(name)], None, f"{known['sample']}: no type {name}")
            for name in missing
        ),
    ]
    return min(height, TALLEST_ROW_MM), drawn


def main(input, output, params):
    palette = style.colours(params.types, params.palette)
    paths = (input.predictions, input.annotations, input.registrations, input.stores)
    known = [read(*of_sample) for of_sample in zip(params.samples, *paths, strict=True)]
    rows = [row_of(params.panels[3 * k : 3 * k + 3], one, palette) for k, one in enumerate(known)]
    left = params.panels[3 * len(known) :]
    rows.append((0.0, [Panel(left, None, "no second external sample in the sheet")] if left else []))
    types = {t: c for t, c in palette.items() if any((v == t).any() for one in known for v in one["types"].values())}
    figure, data = layout.compose(f"{', '.join(params.samples)}: cells by type, and the H&E", rows, types)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
