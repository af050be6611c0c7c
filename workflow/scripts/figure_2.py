"""Figure 2: nucleus sizes and a tile of each type; both spaces and cells by type, before and after refinement."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, panels, style
from shest.tiles import shards

SEED = 42


def draw_sizes(axes, cells, palette):
    """Violins of nucleus width and height by type."""
    types = [t for t in palette if (cells["cell_type"] == t).any()]
    frames = []
    for axis, side in zip(axes, ("width", "height"), strict=True):
        groups = {t.replace("_", "\n"): cells.loc[cells["cell_type"] == t, f"{side}_um"].to_numpy() for t in types}
        frame = panels.violins(axis, groups, [palette[t] for t in types], f"nucleus {side} (µm)", 1)
        axis.tick_params(axis="x", labelsize=6)
        frames.append(frame.assign(side=side, group=frame["group"].str.replace("\n", "_")))
    axes[0].set_title(f"Nuclei by type (n = {len(cells):,}); median below", loc="center")
    return pd.concat(frames)


def draw_tiles(axes, letters, refined, index, palette):
    """One quadruple tile a type, of a cell that refinement kept where there is one."""
    kept = refined[refined["kept"]] if refined["kept"].any() else refined
    types = dict(zip(kept["cell_id"], kept["cell_type"], strict=True))
    chosen = contact_sheet.choose(list(types), types, list(palette), 1, SEED)
    images = contact_sheet.read_tiles(index, [cells[0] for cells in chosen.values()])
    window_um = shards.read_index(index)["window_um"]
    rows = []
    for axis, letter, name in zip(axes, letters, [*palette, *[None] * len(axes)], strict=False):
        if name in chosen:
            panels.tile(axis, images[chosen[name][0]], window_um)
            axis.set_title(name, fontsize=7)
            rows.append({"panel": letter, "cell_type": name, "cell_id": chosen[name][0]})
        else:
            panels.placeholder(axis, f"no training cell of\n{name}" if name else "no further type")
    return pd.DataFrame(rows, columns=["panel", "cell_type", "cell_id"])


def main(input, output, params):
    palette = style.colours(params.types, params.palette)
    labels = pd.read_parquet(input.annotations[0]).set_index("cell_id")["cell_type"]
    cells = pd.read_parquet(input.cells[0])
    cells = cells[cells["kept"]].assign(cell_type=lambda t: t["cell_id"].map(labels)).dropna(subset="cell_type")
    refined = pd.read_parquet(input.refinements[0])
    refined = refined[refined["fold"] == params.shown["fold"]]
    figure = style.plt.figure(figsize=(12, 13))
    top, middle, low = figure.subfigures(3, 1, height_ratios=[1, 0.62, 1.9])
    top_axes, tile_axes, axes = top.subplots(1, 2), middle.subplots(1, 6), low.subplots(2, 3)
    data = {"A": draw_sizes(top_axes, cells, palette)}
    data["B-G"] = draw_tiles(tile_axes, params.panels[1:7], refined, input.tiles[0], palette)
    data |= zip(params.panels[7:], panels.refinement(axes, refined, palette), strict=True)
    style.panel_labels([top_axes[0], *tile_axes, *axes.flat], params.panels)
    figure.suptitle(f"{params.samples[0]}: labelled cells; refinement in the {params.shown['protocol']} protocol")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
