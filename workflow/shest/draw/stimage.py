"""Panels of STImage: what is uncertain of a gene, what an ensemble adds, scores by sample and system."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from shest.draw import panels
from shest.draw.style import COLOURBLIND

PUBLISHED = ("CD63", "ATP1A1")


def two_genes(genes: Sequence[str], mean: np.ndarray) -> list[str]:
    """Choose the published genes where both are there, else the two with the highest mean count, (genes,)."""
    if set(PUBLISHED) <= set(genes):
        return list(PUBLISHED)
    return [genes[k] for k in np.argsort(-mean, kind="stable")[:2]]


def value_map(
    axis: Axes, xy: np.ndarray, values: np.ndarray, extent: tuple[float, float], title: str, label: str
) -> pd.DataFrame:
    """Draw units (n, 2) in µm by a value, colours up to the 99th percentile, highest on top."""
    order = np.argsort(values, kind="stable")
    low, high = (float(np.nanquantile(values, q)) for q in (0, 0.99))
    panels.value_map(axis, xy[order], values[order], (low, max(high, low + 1e-9)), extent, title, label)
    return pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "value": values})


def member_table(actual: np.ndarray, members: Sequence[np.ndarray]) -> pd.DataFrame:
    """Score members and ensembles of the first of them.

    Parameters
    ----------
    actual
        (n, genes) in the unit that is predicted.
    members
        (n, genes) by each member.

    Returns
    -------
    members (how many), first (place of the first), median_r over the genes that vary.
    """
    rows, total = [], 0.0
    for k, own in enumerate(members):
        total = total + own
        rows.append({"members": 1, "first": k, "median_r": median_r(actual, own)})
        if k:
            rows.append({"members": k + 1, "first": 0, "median_r": median_r(actual, total / (k + 1))})
    return pd.DataFrame(rows)


def median_r(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Median over genes of Pearson's R over units, of genes that vary."""
    z = [v - v.mean(axis=0, dtype=np.float64) for v in (actual, predicted)]
    spread = np.sqrt((z[0] ** 2).sum(axis=0) * (z[1] ** 2).sum(axis=0))
    varies = spread > 0
    return float(np.median((z[0] * z[1]).sum(axis=0)[varies] / spread[varies])) if varies.any() else 0.0


def members(axis: Axes, table: pd.DataFrame) -> pd.DataFrame:
    """Draw the median R of each member alone, and of ensembles as members are added."""
    alone, together = table[table["members"] == 1], table[(table["members"] > 1) | (table["first"] == 0)]
    axis.plot(alone["members"], alone["median_r"], "o", ms=3, color="0.5", label="a member alone")
    axis.plot(together["members"], together["median_r"], "-s", ms=3, color=COLOURBLIND[0], label="the first members")
    axis.set(xlabel="members", ylabel="median R of genes", title="Members and ensemble")
    axis.set_xticks(range(1, int(table["members"].max()) + 1))
    axis.legend(frameon=False, fontsize=6)
    return table


def boxes(axis: Axes, r: Mapping[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """Draw R over genes as boxes, a group a sample, a colour a system; whiskers: 5th and 95th percentile.

    ``r``: by sample and system.
    """
    samples, systems = (list(dict.fromkeys(pair[k] for pair in r)) for k in (0, 1))
    width = 0.8 / len(systems)
    for k, system in enumerate(systems):
        colour = COLOURBLIND[k % len(COLOURBLIND)]
        at = [(n, r[sample, system]) for n, sample in enumerate(samples) if (sample, system) in r]
        drawn = axis.boxplot(
            [values for _, values in at],
            positions=[n + (k - (len(systems) - 1) / 2) * width for n, _ in at],
            widths=0.85 * width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black", "lw": 0.8},
        )
        for box in drawn["boxes"]:
            box.set(facecolor=colour, edgecolor="0.3", linewidth=0.4)
        axis.plot([], [], "s", ms=4, color=colour, label=system)
    axis.axhline(0, color="0.7", lw=0.6, zorder=0)
    axis.set_xticks(range(len(samples)), samples)
    axis.set(ylabel="R over units", title="All genes")
    axis.legend(frameon=False, fontsize=6, ncols=len(systems), loc="upper center", bbox_to_anchor=(0.5, -0.12))
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    return pd.DataFrame(
        {"sample": sample, "system": system, "genes": len(v)} | {f"q{q:g}": np.quantile(v, q) for q in quantiles}
        for (sample, system), v in r.items()
    )
