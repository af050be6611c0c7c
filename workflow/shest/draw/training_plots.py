"""Pictures to judge refinement and training by."""

from pathlib import Path

import pandas as pd

from shest.draw import panels
from shest.draw.style import plt, save_picture

DPI = 150
PARTS = {
    "classifier": ("epoch", "cross-entropy"),
    "reconstructor": ("epoch", "negative log-likelihood"),
    "logistic": ("inverse penalty", "cross-entropy"),
    "ridge": ("penalty", "squared error of log(1 + counts)"),
    "autoencoder": ("epoch", "squared error of pixels"),
    "predictor": ("epoch", "loss of log expression"),
}
"""What the steps of a part are, and its loss."""


def draw_refinement(table: pd.DataFrame, palette: dict[str, str], title: str, path: str | Path) -> None:
    """Draw both planes and the counts, before and after refinement; see :func:`panels.refinement`."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), width_ratios=[1, 1, 0.8])
    panels.refinement(axes, table, palette)
    figure.suptitle(title)
    save_picture(figure, path, DPI)


def draw_training(history: pd.DataFrame, title: str, path: str | Path) -> None:
    """Draw losses, and gradient norms where there are any, a column a part; the dot marks the state that was kept.

    Parameters
    ----------
    history
        ``training.csv``, :data:`shest.systems.base.HISTORY`. Without losses on training units, its steps are the
        strengths of a penalty.
    title, path
        Of the picture.
    """
    parts = list(dict.fromkeys(history["part"]))
    heights = [2, 1] if history["gradient_norm"].notna().any() else [2]
    columns = max(len(parts), 1)
    size = 4.5 * columns, sum(heights) * 5 / 3 if parts else 1
    figure, axes = plt.subplots(len(heights), columns, figsize=size, height_ratios=heights, sharex="col", squeeze=False)
    for column, part in zip(axes.T, parts, strict=False):
        rows = history[history["part"] == part]
        epochs = rows["train_loss"].notna().any()
        _losses(column[0], rows, epochs)
        step, loss = PARTS.get(part.split(",")[0], ("step", "loss"))
        column[0].set(title=part, ylabel=loss, xscale="linear" if epochs else "log")
        for _, member in rows.groupby("member") if len(heights) > 1 else ():
            column[1].plot(member["step"], member["gradient_norm"], color="0.4", lw=1)
            column[1].set(ylabel="gradient norm", yscale="log")
        column[-1].set(xlabel=step)
    if not parts:
        panels.placeholder(axes[0, 0], "nothing was fitted step by step")
    figure.suptitle(title)
    save_picture(figure, path, DPI)


def _losses(axis: plt.Axes, rows: pd.DataFrame, epochs: bool) -> None:
    """Draw the losses of a part, a line a member."""
    for number, (_, member) in enumerate(rows.groupby("member")):
        names = ("training", "validation", "kept") if number == 0 else (None,) * 3
        if epochs:
            axis.plot(member["step"], member["train_loss"], color="0.6", lw=1, label=names[0])
        axis.plot(member["step"], member["val_loss"], color="C0", lw=1, label=names[1])
        kept = member[member["best"].astype(bool)].tail(1)
        axis.plot(kept["step"], kept["val_loss"], "o", color="C3", ms=4, label=names[2] if len(kept) else None)
    axis.legend(frameon=False)
