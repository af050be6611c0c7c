"""Figure S2: tiles of cells classified correctly and of cells confused, for the most frequent confusions."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, panels, style
from shest.score.evaluation import Evaluation
from shest.tiles import shards

CONFUSIONS, EXAMPLES, SEED = 3, 3, 42


def most_frequent(cells):
    """The most frequent confusions, one a label: [(label, predicted)]."""
    wrong = cells[cells["label"] != cells["predicted"]]
    pairs = wrong.value_counts(["label", "predicted"]).reset_index().drop_duplicates("label")
    return list(pairs[["label", "predicted"]].head(CONFUSIONS).itertuples(index=False, name=None))


def draw_group(axes, letter, index, cells, label, predicted):
    """Some tiles of the cells of a label that were predicted as a type; return what was drawn."""
    members = cells.loc[(cells["label"] == label) & (cells["predicted"] == predicted), "cell_id"]
    chosen = contact_sheet.choose(list(members), None, [], EXAMPLES, SEED).get(contact_sheet.UNLABELLED, [])
    images = contact_sheet.read_tiles(index, chosen)
    window_um = shards.read_index(index)["window_um"]
    for axis, cell in zip(axes, [*chosen, *[None] * EXAMPLES], strict=False):
        if cell is None:
            panels.placeholder(axis, "no such cell")
        else:
            panels.tile(axis, images[cell], window_um)
    verdict = "correct" if label == predicted else "confused"
    axes[EXAMPLES // 2].set_title(f"{label} → {predicted} ({verdict}, n = {len(members):,})", fontsize=8)
    return [{"panel": letter, "label": label, "predicted": predicted, "cell_id": cell} for cell in chosen]


def lay_out(figure):
    """Axes (confusions, groups, examples), laid out by hand: the constrained layout of this many rounds otherwise
    from run to run."""
    gap = 0.12
    ratios = [*[1] * EXAMPLES, gap, *[1] * EXAMPLES, gap, *[1] * EXAMPLES]
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.88}
    grid = figure.add_gridspec(CONFUSIONS, len(ratios), width_ratios=ratios, hspace=0.2, wspace=0.05, **edges)
    columns = [[g * (EXAMPLES + 1) + k for k in range(EXAMPLES)] for g in range(3)]
    return [[[figure.add_subplot(grid[row, c]) for c in group] for group in columns] for row in range(CONFUSIONS)]


def main(input, output, params):
    scores, cells = Evaluation.read(input.scores[0]), pd.read_parquet(input.scored[0])
    confusions = most_frequent(cells) if scores.types else []
    if not confusions:
        why = "no cell was confused" if scores.types else f"{scores.system} predicts no types"
        panels.placeholder_figure(params.panels, why, output.png, output.data)
        return
    figure = style.plt.figure(figsize=(14, 2.1 * CONFUSIONS + 0.4), layout="none")
    lines, rows = lay_out(figure), []
    for groups, letter, pair in zip(lines, params.panels, [*confusions, *[None] * CONFUSIONS], strict=False):
        if pair is None:
            for axis in [*groups[0], *groups[1], *groups[2]]:
                axis.set_axis_off()
            panels.placeholder(groups[1][EXAMPLES // 2], "no further confusion")
        else:
            label, predicted = pair
            for axes, named in zip(groups, ((label, label), pair, (predicted, predicted)), strict=True):
                rows += draw_group(axes, letter, input.tiles[0], cells, *named)
    style.panel_labels([groups[0][0] for groups in lines], params.panels)
    note = "label → predicted; window, nucleus, and their haematoxylin; bar 5 µm"
    figure.suptitle(f"{scores.sample}, {scores.system}: {note}")
    style.save(figure, output.png, {"tiles": pd.DataFrame(rows)}, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
