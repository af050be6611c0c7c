"""Figure 2: nucleus sizes and a tile of each type; both spaces and cells by type, before and after refinement."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, panels, style

LETTERS = "ABCDEFGHIJKLM"
SPACES = {"expression": "Expression", "morphology": "Embedding"}
SEED = 42


def sizes(axes, cells, palette):
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
    best = refined.sort_values(["kept", "cell_id"], ascending=[False, True])
    held = best["kept"] if best["kept"].any() else ~best["kept"]
    types = dict(zip(best.loc[held, "cell_id"], best.loc[held, "cell_type"], strict=True))
    chosen = contact_sheet.choose(list(types), types, list(palette), 1, SEED)
    images = contact_sheet.read_tiles(index, [cells[0] for cells in chosen.values()])
    window_um = contact_sheet.tiles.read_index(index)["window_um"]
    frames = []
    for axis, letter, name in zip(axes, letters, [*palette, *[None] * len(axes)], strict=False):
        if name is None or name not in chosen:
            panels.absent(axis, f"no training cell of\n{name}" if name else "no further type")
        else:
            panels.tile(axis, images[chosen[name][0]], window_um)
            frames.append({"panel": letter, "cell_type": name, "cell_id": chosen[name][0]})
            axis.set_title(name, fontsize=7, color="black")
        style.letter(axis, letter)
    return pd.DataFrame(frames, columns=["panel", "cell_type", "cell_id"])


def main(input, output, params):
    if not params.samples:
        style.without(LETTERS, "no training sample", output.png, output.data)
        return
    sample = params.samples[0]
    palette = style.colours(params.types, params.palette)
    labels = pd.read_parquet(input.annotations[0]).set_index("cell_id")["cell_type"]
    cells = pd.read_parquet(input.cells[0])
    cells = cells[cells["kept"]].assign(cell_type=lambda t: t["cell_id"].map(labels)).dropna(subset="cell_type")
    refined = pd.read_parquet(input.refinements[0])
    figure = style.plt.figure(figsize=(12, 13))
    top, middle, low = figure.subfigures(3, 1, height_ratios=[1, 0.62, 1.9])
    top_axes, tile_axes, axes = top.subplots(1, 2), middle.subplots(1, 6), low.subplots(2, 3)
    data = {"A": sizes(top_axes, cells, palette)}
    style.letter(top_axes[0], "A")
    data["B-G"] = draw_tiles(tile_axes, "BCDEFG", refined, input.tiles[0], palette)
    types = [t for t in palette if (refined["cell_type"] == t).any()]
    for row, (when, part) in enumerate((("before", refined), ("after", refined[refined["kept"]]))):
        for column, (space, name) in enumerate(SPACES.items()):
            letter = LETTERS[7 + 3 * row + column]
            xy = part[[f"{space}_umap_1", f"{space}_umap_2"]].to_numpy()
            frame = panels.cloud(axes[row, column], xy, part["cell_type"].to_numpy(str), palette, f"{name}, {when}")
            data[letter] = frame
            style.letter(axes[row, column], letter)
        letter = LETTERS[9 + 3 * row]
        counts = part["cell_type"].value_counts().reindex(types, fill_value=0)
        data[letter] = panels.counts_by_type(axes[row, 2], counts, palette, f"Cells {when} refinement")
        style.letter(axes[row, 2], letter)
    figure.suptitle(f"{sample}: labelled cells; refinement in the {params.protocol} protocol")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
