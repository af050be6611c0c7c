"""Figure S2: tiles of cells told right and of cells confused, for the most frequent confusions."""

import pandas as pd

from shest import console, contact, figures, panels

CONFUSIONS, EXAMPLES, SEED = 3, 3, 42


def most_frequent(cells):
    """The most frequent wrong calls, one a true type: [(type, called as)]."""
    wrong = cells[cells["actual"] != cells["called"]]
    pairs = wrong.value_counts(["actual", "called"]).reset_index().drop_duplicates("actual")
    return list(pairs[["actual", "called"]].head(CONFUSIONS).itertuples(index=False, name=None))


def draw_group(part, letter, index, window_um, cells, actual, called):
    """Some tiles of the cells of a type that were called as a type; return what was drawn."""
    members = cells.loc[(cells["actual"] == actual) & (cells["called"] == called), "cell_id"]
    chosen = contact.choose(list(members), None, [], EXAMPLES, SEED).get(contact.UNLABELLED, [])
    images = contact.read_tiles(index, chosen)
    axes = part.subplots(1, EXAMPLES)
    for axis, cell in zip(axes, [*chosen, *[None] * EXAMPLES], strict=False):
        if cell is None:
            panels.absent(axis, "no such cell")
        else:
            panels.tile(axis, images[cell], window_um)
    verdict = "correct" if actual == called else "confused"
    part.suptitle(f"{actual} → {called} ({verdict}, n = {len(members):,})", fontsize=8)
    return [{"panel": letter, "actual": actual, "called": called, "cell_id": cell} for cell in chosen]


def main(input, output, params):
    cells = pd.read_parquet(input.scored[0]) if params.samples else pd.DataFrame({"actual": [], "called": []})
    confusions = most_frequent(cells)
    if not confusions:
        why = "no cell was confused" if params.samples else "no external sample in the sheet"
        figures.without("ABC", why, output.png, output.data)
        return
    index = input.tiles[0]
    window_um = contact.tiles.read_index(index)["window_um"]
    figure = figures.plt.figure(figsize=(14, 2.1 * CONFUSIONS + 0.4))
    rows, drawn = figure.subfigures(CONFUSIONS, 1, squeeze=False)[:, 0], []
    for letter, row, pair in zip("ABC", rows, [*confusions, None, None], strict=False):
        if pair is None:
            axis = row.subplots()
            panels.absent(axis, "no further confusion")
            figures.letter(axis, letter)
            continue
        right, wrong = pair
        groups = row.subfigures(1, 3)
        for group, (actual, called) in zip(groups, ((right, right), (right, wrong), (wrong, wrong)), strict=True):
            drawn += draw_group(group, letter, index, window_um, cells, actual, called)
        groups[0].text(0.01, 0.98, letter, fontweight="bold", fontsize=11, va="top")
    figure.suptitle(f"{params.samples[0]}: actual → predicted; window, nucleus, and their haematoxylin; bar 5 µm")
    figures.save(figure, output.png, {"tiles": pd.DataFrame(drawn)}, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
