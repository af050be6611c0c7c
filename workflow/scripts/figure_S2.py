"""Figure S2: tiles of cells classified correctly and of cells confused, for the most frequent confusions."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet, layout, panels, style
from shest.draw.layout import Panel
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
    for axis, cell in zip(axes, chosen, strict=False):
        panels.tile(axis, images[cell], window_um)
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    verdict = "correct" if label == predicted else "confused"
    axes[0].set_title(f"{label} → {predicted} ({verdict}, {len(members):,})")
    return pd.DataFrame([{"panel": letter, "label": label, "predicted": predicted, "cell_id": cell} for cell in chosen])


def row_of(letter, pair, index, cells):
    """Panels of a confusion: tiles of its label, of the cells confused, and of the type that they were taken for."""
    label, predicted = pair
    found = []
    for part, named in enumerate(((label, label), pair, (predicted, predicted))):

        def drawn(axes, part=part, named=named):
            return {f"{letter}{part}": draw_group(axes[0], letter, index, cells, *named)}

        found.append(Panel(letter if part == 0 else "", drawn, shape=(1, EXAMPLES)))
    return found


def main(input, output, params):
    scores, cells = Evaluation.read(input.scores[0]), pd.read_parquet(input.scored[0])
    confusions = most_frequent(cells) if scores.types else []
    none = "no further confusion" if confusions else "no cell was confused"
    rows = []
    for letter, pair in zip(params.panels, [*confusions, *[None] * CONFUSIONS], strict=False):
        why = none if scores.types else f"{scores.system} predicts no types"
        missing = [Panel(letter, None, why)]
        rows.append((30, row_of(letter, pair, input.tiles[0], cells) if pair else missing))
    title = f"{scores.sample}, {scores.system}: cells by label → predicted type"
    note = ["Each tile: window, nucleus, and the haematoxylin of both; bar 5 µm."] if confusions else []
    figure, data = layout.compose(title, rows, notes=note)
    tiles = {"tiles": pd.concat(data.values(), ignore_index=True)} if data else {}
    style.save(figure, output.png, tiles, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
