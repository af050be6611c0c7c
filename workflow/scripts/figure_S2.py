"""Figure S2: tiles of cells told right and of cells confused, for the most frequent confusions."""

import pandas as pd

from shest import console, contact, figures, panels

CONFUSIONS, EXAMPLES, SEED = 3, 3, 42


def most_frequent(cells):
    """The most frequent wrong calls, one a true type: [(type, called as)]."""
    wrong = cells[cells["actual"] != cells["called"]]
    pairs = wrong.value_counts(["actual", "called"]).reset_index().drop_duplicates("actual")
    return list(pairs[["actual", "called"]].head(CONFUSIONS).itertuples(index=False, name=None))


def main(input, output, params):
    cells = pd.read_parquet(input.scored[0]) if params.samples else pd.DataFrame({"actual": [], "called": []})
    confusions = most_frequent(cells)
    if not confusions:
        why = "no cell was confused" if params.samples else "no external sample in the sheet"
        figures.without("ABC", why, output.png, output.data)
        return
    index = input.tiles[0]
    window_um = contact.tiles.read_index(index)["window_um"]
    figure = figures.plt.figure(figsize=(12, 4.3 * CONFUSIONS))
    rows, drawn = figure.subfigures(CONFUSIONS, 1, squeeze=False)[:, 0], []
    for letter, row, pair in zip("ABC", rows, [*confusions, None, None], strict=False):
        axes = row.subplots(EXAMPLES, 3 * EXAMPLES // EXAMPLES, squeeze=False)
        if pair is None:
            for axis in axes.flat:
                axis.set_axis_off()
            panels.absent(axes[0, 0], "no further confusion")
            figures.letter(axes[0, 0], letter)
            continue
        right, wrong = pair
        for column, (actual, called) in enumerate(((right, right), (right, wrong), (wrong, wrong))):
            members = cells.loc[(cells["actual"] == actual) & (cells["called"] == called), "cell_id"]
            chosen = contact.choose(list(members), None, [], EXAMPLES, SEED).get(contact.UNLABELLED, [])
            images = contact.read_tiles(index, chosen)
            verdict = "correct" if actual == called else "confused"
            axes[0, column].set_title(f"{actual} → {called}\n({verdict}, n = {len(members):,})", fontsize=7)
            for axis, cell in zip(axes[:, column], [*chosen, *[None] * EXAMPLES], strict=False):
                if cell is None:
                    panels.absent(axis, "no such cell")
                else:
                    panels.tile(axis, images[cell], window_um)
                    drawn.append({"panel": letter, "actual": actual, "called": called, "cell_id": cell})
        figures.letter(axes[0, 0], letter)
    figure.suptitle(f"{params.samples[0]}: actual → predicted; window, nucleus, and their haematoxylin; bar 5 µm")
    figures.save(figure, output.png, {"tiles": pd.DataFrame(drawn)}, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
