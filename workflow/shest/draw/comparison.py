"""Pictures of all systems side by side: a panel a score, and scores against what they cost.

Costs are measured: they differ from run to run, scores do not. So they are pictures apart.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from shest.draw import panels
from shest.draw.layout import MM, WIDTH_MM
from shest.draw.style import COLOURBLIND, plt
from shest.score.score_list import SCORES

COLUMNS = 4
ROW_MM, COST_MM, KEY_MM = 30, 45, 12
CHANCE = {"iou_high": "iou_chance", "genes_above": "share_above_by_chance", "auc_high": "auc_by_chance"}
COSTS = {"fit_seconds": "seconds to fit", "units_per_second": "units predicted a second"}
AGAINST = ("weighted", "pearson_common")
MARKERS = "osD^vP*X"


def shown(rows: Sequence[dict]) -> pd.DataFrame:
    """Return the rows that are drawn: of each sample what all systems and programs share, where there are programs.

    Where cells and spots are scored, a sample's spots stand as one of their own.
    """
    table = pd.DataFrame(rows)
    if "unit" in table and table["unit"].nunique() > 1:
        table["sample"] = table["sample"].where(table["unit"] == "cells", table["sample"] + ", spots")
    shared = set(table.loc[table["ground"] == "shared", "sample"])
    table = table[(table["ground"] == "shared") == table["sample"].isin(shared)].reset_index(drop=True)
    number, genes = (pd.to_numeric(table[name]) for name in ("n_genes_above_by_chance", "n_genes"))
    return table.assign(share_above_by_chance=number / genes, auc_by_chance=0.5)


def draw(rows: Sequence[dict]) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Draw the scores of one protocol, ``rows`` of ``comparison/{protocol}.json``.

    Returns
    -------
    The figure, and what each panel shows by its letter.
    """
    table = shown(rows)
    names = [name for name in SCORES if table[name].notna().any()]
    panels = [lambda axis, first, name=name: points(axis, table, name, labels=first) for name in names]
    return _compose(table, panels, ROW_MM + 3 * table["system"].nunique())


def draw_costs(rows: Sequence[dict], costs: pd.DataFrame) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Draw scores against costs, ``costs`` of ``comparison/{protocol}.costs.csv``; as :func:`draw`."""
    table = shown(rows)
    merged = table.merge(costs, on="system", how="left")
    pairs = [(c, score) for score in AGAINST if table[score].notna().any() for c in COSTS]
    panels = [lambda axis, _, pair=pair: against_cost(axis, merged, *pair) for pair in pairs]
    return _compose(table, panels, COST_MM)


def _compose(table: pd.DataFrame, panels: Sequence[Any], height_mm: float) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Draw panels in rows, a letter each; a panel takes its axis, and whether it is the first of its row."""
    lines = max(-(-len(panels) // COLUMNS), 1)
    size = (WIDTH_MM * MM, (lines * height_mm + KEY_MM) * MM)
    with plt.rc_context({"font.size": 6, "axes.titlesize": 7}):
        figure, axes = plt.subplots(lines, COLUMNS, figsize=size, squeeze=False)
        data = {}
        for k, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
            letter = ascii_uppercase[k]
            data[letter] = panel(axis, k % COLUMNS == 0)
            axis.set_title(letter, loc="left", fontweight="bold", fontsize=8)
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        key(figure, axes.flat[0], table)
    return figure, data


def _looks(table: pd.DataFrame, column: str) -> dict[str, str]:
    """Give each sample a colour."""
    return {name: COLOURBLIND[k % len(COLOURBLIND)] for k, name in enumerate(dict.fromkeys(table[column]))}


def points(axis: Axes, table: pd.DataFrame, name: str, labels: bool = True) -> pd.DataFrame:
    """Draw one score of every system, a point a sample with its interval; chance as a grey line where it is known."""
    columns = ["system", "sample", name, f"{name}_low", f"{name}_high"]
    part = table.reindex(columns=[*columns, CHANCE.get(name, "no_chance")]).set_axis(
        ["system", "sample", "value", "low", "high", "chance"], axis=1
    )
    part[["value", "low", "high", "chance"]] = part[["value", "low", "high", "chance"]].apply(pd.to_numeric)
    systems, colours = list(dict.fromkeys(table["system"])), _looks(table, "sample")
    place = {sample: 0.5 * (k - (len(colours) - 1) / 2) / max(len(colours), 1) for k, sample in enumerate(colours)}
    for row in part.dropna(subset=["value"]).itertuples():
        y = systems.index(row.system) + place[row.sample]
        if np.isfinite(row.low):
            axis.plot([row.low, row.high], [y, y], color=colours[row.sample], lw=0.8)
        axis.plot(row.value, y, "o", ms=3, color=colours[row.sample])
        if np.isfinite(row.chance):
            axis.plot([row.chance] * 2, [y - 0.12, y + 0.12], color="0.6", lw=1)
    low, high = (f(part[["value", "low", "high", "chance"]].to_numpy()) for f in (np.nanmin, np.nanmax))
    room = 0.06 * max(high - low, 0.02)
    axis.set(xlim=(low - room, high + room), ylim=(len(systems) - 0.5, -0.5), title=SCORES[name].label)
    axis.set_yticks(range(len(systems)), systems if labels else [""] * len(systems))
    axis.grid(axis="x", color="0.92", lw=0.5)
    axis.set_axisbelow(True)
    axis.set_xlabel(
        "less is better" if SCORES[name].sign < 0 else "share of the genes" if name == "genes_above" else ""
    )
    return part


def against_cost(axis: Axes, table: pd.DataFrame, cost: str, score: str) -> pd.DataFrame:
    """Draw a score against a cost, a marker a system, a colour a sample."""
    part = table[["system", "sample", cost, score]].copy()
    part[[cost, score]] = part[[cost, score]].apply(pd.to_numeric)
    part = part.dropna()
    if part.empty:
        panels.placeholder(axis, f"{COSTS[cost]}: not measured")
        return part
    systems, colours = list(dict.fromkeys(table["system"])), _looks(table, "sample")
    for row in part.itertuples(index=False):
        marker = MARKERS[systems.index(row.system) % len(MARKERS)]
        axis.plot(row[2], row[3], marker, ms=4, color=colours[row.sample], mec="white", mew=0.3)
    axis.margins(y=0.15)
    decades = np.log10(part[cost].to_numpy())
    limits = 10 ** np.floor(decades.min() - 0.05), 10 ** np.ceil(decades.max() + 0.05)
    axis.set(xscale="log", xlim=limits, xlabel=COSTS[cost], ylabel=SCORES[score].label)
    axis.xaxis.set_minor_formatter(NullFormatter())
    return part


def key(figure: Figure, axis: Axes, table: pd.DataFrame) -> None:
    """Name the colours of samples and the markers of systems below the panels; ``axis``: any that draws the handles."""
    shared = set(table.loc[table["ground"] == "shared", "sample"])
    handles = [
        axis.plot([], [], "o", ms=3, color=colour, label=f"{name} (what all share)" if name in shared else name)[0]
        for name, colour in _looks(table, "sample").items()
    ]
    for k, name in enumerate(dict.fromkeys(table["system"])):
        handles += axis.plot([], [], MARKERS[k % len(MARKERS)], ms=4, color="0.4", label=name)
    handles += axis.plot([], [], "|", color="0.6", ms=6, label="by chance")
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=6)
