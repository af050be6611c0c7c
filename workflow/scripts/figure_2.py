"""Figure 2: nucleus sizes and a tile of each type; both spaces and cells by type, before and after refinement."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, layout, panels, style
from shest.draw.layout import Panel
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
    axes[0].set_title(f"Nuclei by type (n = {len(cells):,}); median below")
    return {"A": pd.concat(frames)}


def choose_tiles(letters, refined, palette):
    """Letter, type and cell of one quadruple tile a type, of a cell that refinement kept where there is one."""
    kept = refined[refined["kept"]] if refined["kept"].any() else refined
    types = dict(zip(kept["cell_id"], kept["cell_type"], strict=True))
    chosen = contact_sheet.choose(list(types), types, list(palette), 1, SEED)
    named = zip(letters, [*palette, *[None] * len(letters)], strict=False)
    return [(letter, name, chosen[name][0] if name in chosen else None) for letter, name in named]


def draw_tiles(axes, tiles, index):
    """One quadruple tile a type."""
    images = contact_sheet.read_tiles(index, [cell for _, _, cell in tiles])
    window_um = shards.read_index(index)["window_um"]
    for axis, (_, name, cell) in zip(axes, tiles, strict=True):
        panels.tile(axis, images[cell], window_um)
        axis.set_title(name.replace("_", " "))
    return {"B-G": pd.DataFrame(tiles, columns=["panel", "cell_type", "cell_id"])}


def main(input, output, params):
    palette = style.colours(params.types, params.palette)
    labels = pd.read_parquet(input.annotations[0]).set_index("cell_id")["cell_type"]
    cells = pd.read_parquet(input.cells[0])
    cells = cells[cells["kept"]].assign(cell_type=lambda t: t["cell_id"].map(labels)).dropna(subset="cell_type")
    refined = pd.read_parquet(input.refinements[0])
    refined = refined[refined["fold"] == params.shown["fold"]]
    tiles = choose_tiles(params.panels[1:7], refined, palette)
    shown = [tile for tile in tiles if tile[2] is not None]
    letters, lower = "".join(letter for letter, *_ in shown), params.panels[7:]
    why = "" if shown else "no training cell of any type"
    rows = [
        (48, [Panel(params.panels[0], lambda axes: draw_sizes(axes[0], cells, palette), shape=(1, 2))]),
        (
            36,
            [
                Panel(
                    letters or params.panels[1:7],
                    lambda axes: draw_tiles(axes[0], shown, input.tiles[0]),
                    why,
                    (1, max(len(shown), 1)),
                )
            ],
        ),
        (
            112,
            [
                Panel(
                    lower,
                    lambda axes: dict(zip(lower, panels.refinement(axes, refined, palette), strict=True)),
                    shape=(2, 3),
                )
            ],
        ),
    ]
    notes = [f"{letter}: no training cell of {name}." for letter, name, cell in tiles if name and cell is None]
    spare = [letter for letter, name, _ in tiles if name is None]
    notes += [f"{', '.join(spare)}: no further type."] if spare else []
    title = f"{params.samples[0]}: labelled cells; refinement in the {params.shown['protocol']} protocol"
    figure, data = layout.compose(title, rows, notes=notes)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
