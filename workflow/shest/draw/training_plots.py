"""Pictures to judge refinement and training by."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.draw.style import plt

POINTS = 40_000  # drawn at most in a panel
SPACES = ("expression", "morphology")


def draw_refinement(table: pd.DataFrame, colours: dict[str, str], title: str, path: str | Path) -> None:
    """Draw both planes and the counts, before (upper row) and after (lower row) refinement (paper, figure 2 H–M).

    Parameters
    ----------
    table : of :func:`shest.labels.refine.refine`
    colours : by type
    """
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), width_ratios=[1, 1, 0.8])
    picked = np.random.default_rng(0).permutation(len(table))[:POINTS]
    types = [name for name in colours if (table["cell_type"] == name).any()]
    for row, (when, shown) in enumerate((("before", table), ("after", table[table["kept"]]))):
        for axis, space in zip(axes[row], SPACES, strict=False):
            drawn = shown.loc[shown.index.intersection(picked, sort=False)]
            xy = drawn[[f"{space}_umap_1", f"{space}_umap_2"]].to_numpy()
            axis.scatter(*xy.T, s=3, lw=0, c=drawn["cell_type"].map(colours), rasterized=True)
            axis.set(title=f"{space}, {when}", xticks=[], yticks=[])
            for limit, values in (("xlim", table[f"{space}_umap_1"]), ("ylim", table[f"{space}_umap_2"])):
                axis.set(**{limit: _margins(values)})
        counts = shown["cell_type"].value_counts().reindex(types, fill_value=0)
        bars = axes[row, 2].barh(types, counts, color=[colours[name] for name in types])
        axes[row, 2].bar_label(bars, [f"{n:,}" for n in counts], padding=2)
        axes[row, 2].set(title=f"cells, {when}: {len(shown):,}", xlim=(0, 1.25 * max(len(table), 1)))
        axes[row, 2].set_xlim(0, 1.3 * max(table["cell_type"].value_counts().max(), 1))
        axes[row, 2].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _margins(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) + 1e-6
    return low - room, high + room


def draw_training(rows: pd.DataFrame, title: str, path: str | Path) -> None:
    """Draw losses and gradient norms by epoch, a column a head; the dot marks the weights that were kept.

    Parameters
    ----------
    rows : ``training.csv``
    """
    heads = list(dict.fromkeys(rows["head"]))
    units = {"classifier": "cross-entropy", "reconstructor": "negative log-likelihood"}
    figure, axes = plt.subplots(
        2, len(heads), figsize=(4.5 * len(heads), 5), height_ratios=[2, 1], sharex="col", squeeze=False
    )
    for column, head in enumerate(heads):
        for member, part in rows[rows["head"] == head].groupby("member"):
            above, below = axes[0, column], axes[1, column]
            first = member == rows["member"].min()
            above.plot(part["epoch"], part["train_loss"], color="0.6", lw=1, label="training" if first else None)
            above.plot(part["epoch"], part["val_loss"], color="C0", lw=1, label="validation" if first else None)
            kept = part[part["best"]].iloc[-1]
            above.plot(kept["epoch"], kept["val_loss"], "o", color="C3", ms=4, label="kept" if first else None)
            below.plot(part["epoch"], part["gradient_norm"], color="0.4", lw=1)
        axes[0, column].set(title=head, ylabel=units.get(head, "loss"))
        axes[0, column].legend(frameon=False)
        axes[1, column].set(xlabel="epoch", ylabel="gradient norm", yscale="log")
    figure.suptitle(title)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
