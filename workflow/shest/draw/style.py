"""Drawing: one style, the paper's class colours, and every figure beside the data it shows."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from shest.core.files import atomic_write, remove

plt.rcParams.update(
    {
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "axes.linewidth": 0.6,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "legend.fontsize": 6.5,
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


def hex_palettes(cell_types: dict[str, dict], first: str) -> dict[str, dict[str, str]]:
    """Return every palette by its name, ``first`` first: the colour of each type, ``#rrggbb``."""
    names = dict.fromkeys([first, "paper", "colourblind"])
    return {name: {t: to_hex(c) for t, c in colours(cell_types, name).items()} for name in names}


def save(figure: Figure, png: str | Path, data: dict[str, pd.DataFrame], folder: str | Path) -> None:
    """Write a figure as PNG (300 dpi) and PDF (text as text), and each panel's data as ``{folder}/{panel}.csv``."""
    remove(folder)
    with atomic_write(folder) as tmp_path:
        tmp_path.mkdir()
        for panel, frame in data.items():
            frame.to_csv(tmp_path / f"{panel}.csv", index=False, float_format="%.6g")
    with atomic_write(Path(png).with_suffix(".pdf")) as tmp_path:
        figure.savefig(tmp_path, metadata={"CreationDate": None, "ModDate": None})
    save_picture(figure, png, DPI)


def save_picture(figure: Figure, png: str | Path, dpi: int) -> None:
    """Write a picture that has no data of its own as PNG, the same bytes each time, and close it."""
    with atomic_write(png) as tmp_path:
        figure.savefig(tmp_path, dpi=dpi, metadata={"Software": None})
    plt.close(figure)
