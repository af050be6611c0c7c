"""Figure S2: tiles of cells told right and of cells confused, for the most frequent confusions."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, panels, style

CONFUSIONS, EXAMPLES, SEED = 3, 3, 42


def most_frequent(cells):
    """The most frequent wrong calls, one a true type: [(type, called as)]."""
    wrong = cells[cells["actual"] != cells["called"]]
    pairs = wrong.value_counts(["actual", "called"]).reset_index().drop_duplicates("actual")
    return list(pairs[["actual", "called"]].head(CONFUSIONS).itertuples(index=False, name=None))


def draw_group(axes, letter, index, window_um, cells, actual, called):
    """Some tiles of the cells of a type that were called as a type; return what was drawn."""
    members = cells.loc[(cells["actual"] == actual) & (cells["called"] == called), "cell_id"]
    chosen = contact_sheet.choose(list(members), None, [], EXAMPLES, SEED).get(contact_sheet.UNLABELLED, [])
    images = contact_sheet.read_tiles(index, chosen)
    for axis, cell in zip(axes, [*chosen, *[None] * EXAMPLES], strict=False):
        if cell is None:
            panels.absent(axis, "no such cell")
        else:
            panels.tile(axis, images[cell], window_um)
    verdict = "correct" if actual == called else "confused"
    axes[EXAMPLES // 2].set_title(f"{actual} → {called} ({verdict}, n = {len(members):,})", fontsize=8)
    return [{"panel": letter, "actual": actual, "called": called, "cell_id": cell} for cell in chosen]


def main(input, output, params):
    cells = pd.read_parquet(input.scored[0]) if params.samples else pd.DataFrame({"actual": [], "called": []})
    confusions = most_frequent(cells)
    if not confusions:
        why = "no cell was confused" if params.samples else "no external sample in the sheet"
        style.without("ABC", why, output.png, output.data)
        return
    index = input.tiles[0]
    window_um = contact_sheet.tiles.read_index(index)["window_um"]
    # Laid out by hand: the constrained layout rounds otherwise from run to run where axes are this many.
    figure = style.plt.figure(figsize=(14, 2.1 * CONFUSIONS + 0.4), layout="none")
    gap, drawn = 0.12, []
    ratios = [1] * EXAMPLES + 2 * ([gap] + [1] * EXAMPLES)
    grid = figure.add_gridspec(
        CONFUSIONS,
        len(ratios),
        width_ratios=ratios,
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=0.88,
        hspace=0.2,
        wspace=0.05,
    )
    for row, (letter, pair) in enumerate(zip("ABC", [*confusions, None, None], strict=False)):
        groups = [[figure.add_subplot(grid[row, g * (EXAMPLES + 1) + i]) for i in range(EXAMPLES)] for g in range(3)]
        if pair is None:
            for axis in [*groups[0], *groups[1], *groups[2]]:
                axis.set_axis_off()
            panels.absent(groups[1][EXAMPLES // 2], "no further confusion")
        else:
            right, wrong = pair
            for axes, (actual, called) in zip(groups, ((right, right), (right, wrong), (wrong, wrong)), strict=True):
                drawn += draw_group(axes, letter, index, window_um, cells, actual, called)
        style.letter(groups[0][0], letter)
    figure.suptitle(f"{params.samples[0]}: actual → predicted; window, nucleus, and their haematoxylin; bar 5 µm")
    style.save(figure, output.png, {"tiles": pd.DataFrame(drawn)}, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
