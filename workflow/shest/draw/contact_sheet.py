"""The contact sheet: quadruple tiles of some cells of each type, to be looked at."""

from pathlib import Path

import numpy as np

from shest.draw import panels
from shest.draw.style import plt, save_picture
from shest.tiles import quadruple, shards

UNLABELLED = "no type"


def choose(cell_ids: list[str], types: dict[str, str] | None, names: list[str], per_type: int, seed: int) -> dict:
    """Draw cells of each type at random.

    Parameters
    ----------
    cell_ids
        The cells that have a tile.
    types
        Type of each cell that has one; None where nothing is annotated.
    names
        The types, in the order of the rows.
    per_type
        Cells a row, at most.
    seed
        Of the draw.

    Returns
    -------
    Cell ids for each name that has any; without types, one row of cells. The draw of a type does not hang on
    the other types.
    """
    if types is None:
        groups = {UNLABELLED: sorted(cell_ids)}
    else:
        groups = {name: sorted(c for c in cell_ids if types.get(c) == name) for name in names}
    rows = {}
    for name, members in groups.items():
        if members:
            rng = np.random.default_rng([seed, *name.encode()])
            rows[name] = list(rng.choice(members, min(per_type, len(members)), replace=False))
    return rows


def read_tiles(index_path: str | Path, cell_ids: list[str]) -> dict[str, np.ndarray]:
    """Assemble the tiles (224, 224, 3) of a few cells; of each shard only their rows are read."""
    wanted, tiles = set(cell_ids), {}
    for entry in shards.read_index(index_path)["shards"]:
        rows = [row for row, cell in enumerate(entry["cells"]) if cell in wanted]
        if rows:
            windows, masks = shards.read_rows(Path(index_path).parent / entry["file"], rows)
            tiles |= zip((entry["cells"][row] for row in rows), quadruple.assemble(windows, masks, 1), strict=True)
    return tiles


def sheet(rows: dict[str, list[str]], images: dict[str, np.ndarray], window_um: float, path: str | Path) -> None:
    """Draw a row of tiles for each type, a bar of 5 µm in every window, and write the picture."""
    height, width = max(len(rows), 1), max((len(cells) for cells in rows.values()), default=1)
    figure, axes = plt.subplots(height, width, squeeze=False, figsize=(1.55 * width + 0.6, 1.65 * height + 0.5))
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (name, cells) in zip(axes, rows.items(), strict=False):
        line[0].text(-0.08, 0.5, name, rotation=90, ha="right", va="center", transform=line[0].transAxes, fontsize=8)
        for axis, cell in zip(line, cells, strict=False):
            panels.tile(axis, images[cell], window_um)
            axis.set_title(cell, fontsize=5, pad=2)
    caption = f"Window of {window_um:g} µm, masked to the nucleus; below, haematoxylin. Bar: {panels.BAR_UM:g} µm"
    figure.suptitle(caption, fontsize=8)
    save_picture(figure, path, 180)
