"""Drawing: one style, the paper's class colours, and every picture beside the data it shows."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shest.files import remove, replacing

plt.rcParams.update(
    {
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "shest",
        "figure.constrained_layout.use": True,
    }
)
DPI = 300
COLOURBLIND = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")  # Okabe & Ito
PAPER = {
    "Alveolar_cell": "pink",
    "Tumor_cell_LUAD": "red",
    "Macrophage": "orange",
    "Endothelial_cell": "yellow",
    "Fibroblast": "green",
    "Lymphocyte": "blue",
}


def colours(cell_types: dict[str, dict], palette: str = "paper") -> dict[str, str]:
    """Choose the colour of each type: the config's, the paper's for its types, else one that all can tell apart."""
    free = iter(COLOURBLIND * (1 + len(cell_types) // len(COLOURBLIND)))
    if palette == "colourblind":
        return {name: next(free) for name in cell_types}
    return {name: entry.get("colour") or PAPER.get(name) or next(free) for name, entry in cell_types.items()}


def save(figure: Figure, png: str | Path, data: dict[str, pd.DataFrame], folder: str | Path) -> None:
    """Write a figure as PNG (300 dpi) and PDF (text as text), and each panel's data as ``{folder}/{panel}.csv``."""
    png = Path(png)
    remove(folder)
    with replacing(folder) as aside:
        aside.mkdir()
        for panel, frame in data.items():
            frame.to_csv(aside / f"{panel}.csv", index=False, float_format="%.6g")
    with replacing(png.with_suffix(".pdf")) as aside:
        figure.savefig(aside, metadata={"CreationDate": None, "ModDate": None})
    with replacing(png) as aside:
        figure.savefig(aside, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def letter(axis: Axes, text: str) -> None:
    """Name a panel at its upper left corner."""
    axis.set_title(text, loc="left", fontweight="bold", fontsize=11)


def absent(axis: Axes, why: str) -> None:
    """Say in a panel's place why it cannot be drawn."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=axis.transAxes, color="0.4")


def confusion(axis: Axes, matrix: np.ndarray, types: list[str], normalise: bool, title: str) -> pd.DataFrame:
    """Draw a confusion matrix, rows actual; with ``normalise`` each row is a share of its actual cells."""
    total = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(total, 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(len(types)):
        for j in range(len(types)):
            text = f"{share[i, j]:.2f}" if normalise else f"{matrix[i, j]:,}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if share[i, j] > 0.6 else "black")
    axis.set_xticks(range(len(types)), types, rotation=45, ha="right")
    axis.set_yticks(range(len(types)), types)
    axis.set(xlabel="predicted", ylabel="actual", title=f"{title} (n = {matrix.sum():,})")
    axis.spines[:].set_visible(True)
    frame = pd.DataFrame(share if normalise else matrix, columns=types)
    frame.insert(0, "actual", types)
    return frame


def bars(axis: Axes, scores: pd.DataFrame, title: str) -> pd.DataFrame:
    """Draw scores with their intervals as grouped bars.

    Parameters
    ----------
    scores
        score (what is on the x axis), by (one colour each), value, and optionally low and high.
    """
    groups, kinds = list(dict.fromkeys(scores["score"])), list(dict.fromkeys(scores["by"]))
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        rows = scores[scores["by"] == kind].set_index("score").reindex(groups)
        x = np.arange(len(groups)) + (k - (len(kinds) - 1) / 2) * width
        axis.bar(x, rows["value"], width * 0.92, label=kind, color=COLOURBLIND[k % len(COLOURBLIND)])
        if {"low", "high"} <= set(rows.columns):
            errors = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["value"].to_numpy(float))
            axis.errorbar(x, rows["value"], errors, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
        for at, value in zip(x, rows["value"], strict=True):
            if np.isfinite(value):
                axis.text(at, 0.02, f"{value:.2f}", rotation=90, ha="center", va="bottom", fontsize=6, color="white")
    axis.set_xticks(range(len(groups)), groups)
    axis.set(ylim=(0, 1), title=title)
    axis.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=min(len(kinds), 3))
    return scores


def scale_bar(axis: Axes, length_um: float, um_per_unit: float = 1.0) -> None:
    """Draw a bar of ``length_um`` at the lower left; ``um_per_unit`` is what a unit of the axis measures."""
    (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
    left, low = x0 + 0.04 * (x1 - x0), y0 + 0.05 * (y1 - y0)
    units = np.sign(x1 - x0) * length_um / um_per_unit
    axis.plot([left, left + units], [low, low], color="black", lw=2, solid_capstyle="butt", clip_on=False)
    at = left + units / 2, low + 0.015 * (y1 - y0)
    halo = [patheffects.withStroke(linewidth=2, foreground="white")]
    axis.text(*at, f"{length_um:g} µm", ha="center", va="bottom", fontsize=7, path_effects=halo)


def round_length(width: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of about a fifth of ``width``."""
    target = width / 5
    power = 10 ** np.floor(np.log10(target))
    return float(power * max(step for step in (1, 2, 5) if step * power <= target))


def cell_map(
    axis: Axes, xy: np.ndarray, kind: pd.Series, palette: dict[str, str], extent: tuple[float, float], title: str
) -> pd.DataFrame:
    """Draw cells by type in H&E orientation (y down).

    Parameters
    ----------
    xy : (n, 2) µm from the upper left corner of the H&E
    kind : (n,) type, or missing
    extent : width and height of the H&E, µm
    """
    kind = pd.Series(kind.to_numpy(object, na_value=None))
    size = float(np.clip(3e4 / max(len(xy), 1), 0.2, 8))
    for name, colour in palette.items():
        chosen = (kind == name).to_numpy()
        edge = {"edgecolors": "0.6", "linewidths": 0.1} if size > 2 else {"linewidths": 0}
        axis.scatter(*xy[chosen].T, s=size, color=colour, label=f"{name} ({chosen.sum():,})", rasterized=True, **edge)
    axis.set(aspect="equal", xlim=(0, extent[0]), ylim=(extent[1], 0))
    axis.set_title(f"{title} (n = {int(kind.isin(palette).sum()):,})")
    scale_bar(axis, round_length(extent[0]))
    axis.set_axis_off()
    return pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "cell_type": kind.to_numpy()})
