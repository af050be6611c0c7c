"""Drawing: one style, the paper's class colours, and every picture beside the data it shows."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shest.core.files import atomic_write, remove

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
    with atomic_write(folder) as tmp_path:
        tmp_path.mkdir()
        for panel, frame in data.items():
            frame.to_csv(tmp_path / f"{panel}.csv", index=False, float_format="%.6g")
    with atomic_write(png.with_suffix(".pdf")) as tmp_path:
        figure.savefig(tmp_path, metadata={"CreationDate": None, "ModDate": None})
    with atomic_write(png) as tmp_path:
        figure.savefig(tmp_path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def letter(axis: Axes, text: str) -> None:
    """Name a panel at its upper left corner."""
    axis.set_title(text, loc="left", fontweight="bold", fontsize=11)


def without(panels: str, why: str, png: str | Path, folder: str | Path) -> None:
    """Write a figure of which no panel can be drawn: each says why, in its place."""
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 1.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, panels, strict=False):
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=axis.transAxes, color="0.4")
        letter(axis, name)
    save(figure, png, {}, folder)
