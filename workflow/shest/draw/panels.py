"""Panels: each draws one thing on an axis and returns the table of what it drew."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from shest.draw.style import COLOURBLIND

POINTS = 40_000  # drawn at most in a scatter plot
VIOLIN = 1_000  # cells a type, at most, that a violin of markers is drawn from
VIOLIN_HEIGHT = 0.58  # of a row: the medians stand below it
SEED = 42
BAR_UM = 5.0
SIDES = {"predicted": "expected counts", "drawn": "drawn counts"}  # whose Moran's I stands against the actual
UNKNOWN_SHARE = 0.2  # as which dots are drawn whose size says nothing
SET, HATCHES = len(COLOURBLIND), ("", "////", "....")  # of bars, where colours are too few


def placeholder(axis: Axes, why: str) -> None:
    """Say in a panel's place why it cannot be drawn."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=axis.transAxes, color="0.4")


def confusion(axis: Axes, counts: pd.DataFrame, normalise: bool, title: str) -> pd.DataFrame:
    """Draw a confusion matrix, rows by label; with ``normalise`` each row is a share of its cells.

    Parameters
    ----------
    counts
        Of :func:`shest.draw.figure_data.confusion`.
    """
    types, matrix = list(counts), counts.to_numpy()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i in range(len(types)):
        for j in range(len(types)):
            text = f"{share[i, j]:.2f}" if normalise else f"{matrix[i, j]:,}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if share[i, j] > 0.6 else "black")
    axis.set_xticks(range(len(types)), types, rotation=45, ha="right")
    axis.set_yticks(range(len(types)), types)
    axis.set(xlabel="predicted", ylabel="label", title=f"{title} (n = {matrix.sum():,})")
    axis.spines[:].set_visible(True)
    frame = pd.DataFrame(share if normalise else matrix, columns=types)
    frame.insert(0, "label", types)
    return frame


def bars(axis: Axes, scores: pd.DataFrame, title: str) -> pd.DataFrame:
    """Draw scores with their intervals as grouped bars.

    Parameters
    ----------
    scores
        score (the group on the x axis), by (one colour each), value, low and high (NaN without an interval).
    """
    if scores.empty:
        placeholder(axis, "no system predicts types")
        return scores
    groups, names = list(dict.fromkeys(scores["score"])), list(dict.fromkeys(scores["by"]))
    width = 0.8 / max(scores.groupby("score").size())
    looks = {name: {"color": COLOURBLIND[k % SET], "hatch": HATCHES[k // SET % 3]} for k, name in enumerate(names)}
    for name in names:
        axis.bar(0, 0, label=name, edgecolor="white", linewidth=0, **looks[name])
    text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 6, "path_effects": _halo("white")}
    for centre, group in enumerate(groups):
        rows = scores[scores["score"] == group]
        x = centre + (np.arange(len(rows)) - (len(rows) - 1) / 2) * width
        for at, value, name in zip(x, rows["value"], rows["by"], strict=True):
            axis.bar(at, value, width * 0.92, edgecolor="white", linewidth=0, **looks[name])
            axis.text(at, 0.02, f"{value:.2f}", **text)
        errors = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["value"].to_numpy(float))
        axis.errorbar(x, rows["value"], errors, fmt="none", ecolor="0.4", elinewidth=0.8, capsize=1.5)
    axis.set_xticks(range(len(groups)), groups, fontsize=6)
    axis.set(ylim=(0, 1), title=title)
    axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return scores


def scale_bar(axis: Axes, length_um: float) -> None:
    """Draw a bar of ``length_um`` at the lower left of an axis in µm."""
    (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
    left, low = x0 + 0.04 * (x1 - x0), y0 + 0.05 * (y1 - y0)
    axis.plot([left, left + length_um], [low, low], color="black", lw=2, solid_capstyle="butt", clip_on=False)
    at = left + length_um / 2, low + 0.015 * (y1 - y0)
    axis.text(*at, f"{length_um:g} µm", ha="center", va="bottom", fontsize=7, path_effects=_halo("white"))


def _halo(colour: str) -> list[patheffects.AbstractPathEffect]:
    """Outline of a text that is to be read on any ground."""
    return [patheffects.withStroke(linewidth=2, foreground=colour)]


def round_length(width: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of about a fifth of ``width``."""
    target = width / 5
    power = 10 ** np.floor(np.log10(target))
    return float(power * max(step for step in (1, 2, 5) if step * power <= target))


def point(cells: int) -> float:
    """Size of a cell's point on a map: smaller the more there are."""
    return float(np.clip(3e4 / max(cells, 1), 0.2, 8))


def frame_map(axis: Axes, extent: tuple[float, float], title: str) -> None:
    """Frame a map of the H&E, y down: title, scale bar, nothing else."""
    axis.set(aspect="equal", xlim=(0, extent[0]), ylim=(extent[1], 0), title=title)
    scale_bar(axis, round_length(extent[0]))
    axis.set_axis_off()


def _part_groups(axis: Axes, groups: dict[str, list[str]]) -> None:
    """Draw a line between the markers of one type and the next."""
    for end in np.cumsum([len(members) for members in groups.values()])[:-1]:
        axis.axvline(end - 0.5, color="0.85", lw=0.6, zorder=0)


def _fill(bodies: Sequence[Artist], colours: Sequence[str], alpha: float = 0.9, linewidth: float = 0.3) -> None:
    """Colour the bodies of violins."""
    for body, colour in zip(bodies, colours, strict=True):
        body.set(facecolor=colour, edgecolor="0.3", alpha=alpha, linewidth=linewidth)


def cell_map(
    axis: Axes, xy: np.ndarray, cell_type: pd.Series, palette: dict[str, str], extent: tuple[float, float], title: str
) -> pd.DataFrame:
    """Draw cells by type in H&E orientation (y down).

    Parameters
    ----------
    xy
        (n, 2) µm from the upper left corner of the H&E.
    cell_type
        (n,) type, or missing.
    extent
        Width and height of the H&E, µm.
    """
    cell_type = pd.Series(cell_type.to_numpy(object, na_value=None))
    size = point(len(xy))
    for name, colour in palette.items():
        chosen = (cell_type == name).to_numpy()
        edge = {"edgecolors": "0.6", "linewidths": 0.1} if size > 2 else {"linewidths": 0}
        axis.scatter(*xy[chosen].T, s=size, color=colour, label=f"{name} ({chosen.sum():,})", rasterized=True, **edge)
    frame_map(axis, extent, f"{title} (n = {int(cell_type.isin(palette).sum()):,})")
    return pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "cell_type": cell_type.to_numpy()})


def violins(
    axis: Axes, groups: dict[str, np.ndarray], colours: list[str], ylabel: str, digits: int = 2
) -> pd.DataFrame:
    """Draw a violin for each named group of values, its median and n below it."""
    drawn = [(k, values) for k, values in enumerate(groups.values()) if len(values)]
    if not drawn:
        placeholder(axis, "no values")
        return pd.DataFrame(columns=["group", "value"])
    positions, values = zip(*drawn, strict=True)
    parts = axis.violinplot(values, positions, widths=0.85, showmedians=True, showextrema=False)
    _fill(parts["bodies"], [colours[k] for k in positions], alpha=0.85, linewidth=0.4)
    parts["cmedians"].set(color="black", linewidth=0.8)
    labels = [
        f"{name}\n{np.median(values):.{digits}f}\nn = {len(values):,}" if len(values) else f"{name}\n–"
        for name, values in groups.items()
    ]
    axis.set_xticks(range(len(labels)), labels)
    axis.set(ylabel=ylabel, xlim=(-0.6, len(labels) - 0.4))
    return pd.concat([pd.DataFrame({"group": name, "value": v}) for name, v in groups.items()], ignore_index=True)


def scatter(
    axis: Axes,
    xy: np.ndarray,
    cell_type: np.ndarray,
    palette: dict[str, str],
    title: str,
    limits: Sequence[tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """Draw points of a projection (n, 2) by type, in random order, at most 40,000 of them.

    Parameters
    ----------
    limits
        Of x and y, where several panels share them.
    """
    order = np.random.default_rng(SEED).permutation(len(xy))[:POINTS]
    colour = [palette.get(name, "0.7") for name in cell_type[order]]
    size = float(np.clip(1.5e4 / max(len(order), 1), 0.3, 8))
    axis.scatter(*xy[order].T, s=size, lw=0, c=colour, rasterized=True)
    some = f", {len(order):,} drawn" if len(order) < len(xy) else ""
    axis.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2", title=f"{title} (n = {len(xy):,}{some})")
    if limits is not None:
        axis.set(xlim=limits[0], ylim=limits[1])
    return pd.DataFrame({"umap_1": xy[order, 0], "umap_2": xy[order, 1], "cell_type": cell_type[order]})


def legend(axis: Axes, palette: dict[str, str], names: list[str], **options) -> None:
    """Name the types' colours on an axis."""
    for name in names:
        axis.scatter([], [], s=16, color=palette[name], label=name, edgecolors="0.6", linewidths=0.2)
    axis.legend(fontsize=6, frameon=False, **options)


def counts_by_type(axis: Axes, counts: pd.Series, palette: dict[str, str], title: str, high: int) -> pd.DataFrame:
    """Draw the number of cells of each type as bars; ``high``: the highest of all panels that share the axis."""
    colours = [palette[t] for t in counts.index]
    patches = axis.barh(counts.index, counts, color=colours, edgecolor="0.6", linewidth=0.3)
    axis.bar_label(patches, [f"{n:,}" for n in counts], padding=2, fontsize=6)
    axis.set(title=f"{title} (n = {int(counts.sum()):,})", xlabel="cells", xlim=(0, 1.3 * max(high, 1)))
    axis.invert_yaxis()
    return counts.rename("cells").rename_axis("cell_type").reset_index()


def refinement(axes: np.ndarray, table: pd.DataFrame, palette: dict[str, str]) -> list[pd.DataFrame]:
    """Draw both planes and the counts, before (upper row) and after refinement (paper, figure 2 H–M).

    Parameters
    ----------
    axes
        (2, 3); the rows share their limits.
    table
        Of :func:`shest.labels.refine.refine`.

    Returns
    -------
    What each panel shows, row by row.
    """
    types = [t for t in palette if (table["cell_type"] == t).any()]
    counts = table["cell_type"].value_counts()
    data = []
    for row, when, part in ((axes[0], "before", table), (axes[1], "after", table[table["kept"]])):
        for axis, space, name in ((row[0], "expression", "Expression"), (row[1], "morphology", "Embedding")):
            plane = [f"{space}_umap_1", f"{space}_umap_2"]
            limits = [_with_margin(table[column]) for column in plane]
            cell_type = part["cell_type"].to_numpy(str)
            data.append(scatter(axis, part[plane].to_numpy(), cell_type, palette, f"{name}, {when}", limits))
        number = part["cell_type"].value_counts().reindex(types, fill_value=0)
        data.append(counts_by_type(row[2], number, palette, f"Cells {when} refinement", counts.max()))
    return data


def _with_margin(values: pd.Series) -> tuple[float, float]:
    """Limits of an axis that holds some values."""
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) + 1e-6
    return low - room, high + room


def dots(
    axis: Axes, table: pd.DataFrame, groups: dict[str, list[str]], types: list[str], title: str, size: str
) -> pd.DataFrame:
    """Draw markers by type: size is the share of cells with a count, colour the mean, scaled by gene to its highest.

    Parameters
    ----------
    table
        Of :func:`shest.score.markers.by_type`.
    groups
        Markers of each type, the order of the columns.
    types
        The order of the rows.
    size
        What the size says, for the legend. Where no share is known, all dots are small and alike.
    """
    genes = [gene for members in groups.values() for gene in members]
    mean = table.pivot(index="cell_type", columns="gene", values="mean").reindex(index=types, columns=genes)
    share = table.pivot(index="cell_type", columns="gene", values="share").reindex(index=types, columns=genes)
    scaled = (mean / mean.max().replace(0, np.nan)).fillna(0)
    x, y = np.meshgrid(range(len(genes)), range(len(types)))
    known = share.notna().to_numpy().any()
    area = 42 * (share.fillna(0) if known else share.fillna(UNKNOWN_SHARE)).to_numpy().ravel() + 0.5
    points = axis.scatter(
        x.ravel(),
        y.ravel(),
        s=area,
        c=scaled.to_numpy().ravel(),
        cmap="Reds",
        vmin=0,
        vmax=1,
        edgecolors="0.6",
        linewidths=0.2,
    )
    axis.set_xticks(range(len(genes)), genes, rotation=90, fontsize=6)
    axis.set_yticks(range(len(types)), types)
    axis.set(title=title, xlim=(-0.7, len(genes) - 0.3), ylim=(len(types) - 0.5, -0.5))
    _part_groups(axis, groups)
    axis.figure.colorbar(
        points, ax=axis, shrink=0.7, pad=0.01, label="mean log(1 + counts),\nshare of the gene's highest"
    )
    shares = (0.25, 0.5, 1) if known else ()
    handles = [axis.scatter([], [], s=42 * part + 0.5, color="0.6", label=f"{part:.0%}") for part in shares]
    axis.legend(
        handles=handles,
        title=size,
        fontsize=6,
        title_fontsize=6,
        frameon=False,
        ncols=3,
        loc="lower right",
        bbox_to_anchor=(1, 1),
    )
    return table


def expression_map(
    axis: Axes, xy: np.ndarray, values: np.ndarray, extent: tuple[float, float], title: str
) -> pd.DataFrame:
    """Draw cells (n, 2) in µm by log(1 + counts), colours up to the 99th percentile, highest on top."""
    logs = np.log1p(values)
    order = np.argsort(logs, kind="stable")
    high = max(float(np.quantile(logs, 0.99)), 1e-3) if len(logs) else 1.0
    size = point(len(xy))
    points = axis.scatter(*xy[order].T, s=size, lw=0, c=logs[order], cmap="viridis", vmin=0, vmax=high, rasterized=True)
    axis.figure.colorbar(points, ax=axis, shrink=0.6, pad=0.01, label="log(1 + counts)")
    frame_map(axis, extent, title)
    return pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "value": values})


def value_map(
    axis: Axes,
    xy: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float],
    extent: tuple[float, float],
    title: str,
    label: str,
) -> None:
    """Draw units (n, 2) in µm by their values, coloured between limits that another map may share."""
    points = axis.scatter(
        *xy.T, s=point(len(xy)), lw=0, c=values, cmap="viridis", vmin=limits[0], vmax=limits[1], rasterized=True
    )
    axis.figure.colorbar(points, ax=axis, shrink=0.6, pad=0.01, label=label)
    frame_map(axis, extent, title)


def type_map(
    axis: Axes,
    xy: np.ndarray,
    chosen: np.ndarray,
    colour: str,
    extent: tuple[float, float],
    title: str,
    unit: str = "cells",
) -> pd.DataFrame:
    """Draw the chosen cells in their type's colour over all others in grey."""
    size = point(len(xy))
    axis.scatter(*xy[~chosen].T, s=size * 0.6, lw=0, color="0.88", rasterized=True)
    axis.scatter(*xy[chosen].T, s=size, lw=0, color=colour, rasterized=True)
    frame_map(axis, extent, f"{title} ({chosen.sum():,} of {len(xy):,} {unit})")
    return pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "chosen": chosen})


def marker_violins(
    axis: Axes,
    values: np.ndarray,
    cell_type: np.ndarray,
    groups: dict[str, list[str]],
    palette: dict[str, str],
    title: str,
) -> pd.DataFrame:
    """Draw the distribution of each marker in each type: a row a type, a violin a gene, its median below it.

    Parameters
    ----------
    values
        (n, genes) counts, genes in the order of ``groups``.
    groups
        Markers of each type.
    """
    genes, types = [g for members in groups.values() for g in members], [t for t in palette if (cell_type == t).any()]
    rng, logs, parts = np.random.default_rng(SEED), np.log1p(values), []
    high = max(float(np.quantile(logs, 0.995)), 1e-3)
    for row, name in enumerate(types):
        rows = np.flatnonzero(cell_type == name)
        some = np.sort(rng.permutation(rows)[:VIOLIN])
        base = len(types) - 1 - row
        shape = base + VIOLIN_HEIGHT * np.minimum(logs[some], high) / high
        varies = [g for g in range(len(genes)) if len(some) > 1 and np.ptp(shape[:, g]) > 0]
        if varies:
            bodies = axis.violinplot(shape[:, varies], varies, widths=0.9, showextrema=False)["bodies"]
            _fill(bodies, [palette[name]] * len(varies))
        for g, middle in enumerate(np.median(logs[rows], axis=0)):
            line = base + VIOLIN_HEIGHT * min(middle, high) / high
            axis.plot([g - 0.3, g + 0.3], [line] * 2, color="black", lw=0.6)
            axis.text(g, base - 0.02, f"{middle:.2f}".lstrip("0") if middle else "0", ha="center", va="top", fontsize=6)
        parts.append(pd.DataFrame(logs[some], columns=genes).assign(cell_type=name))
    labels = [f"{t} ({(cell_type == t).sum():,})" for t in types]
    axis.set_yticks([len(types) - 1 - row + 0.3 for row in range(len(types))], labels)
    axis.set_xticks(range(len(genes)), genes, rotation=90, fontsize=6)
    _part_groups(axis, groups)
    axis.set(title=f"{title}: log(1 + counts), median below", xlim=(-0.7, len(genes) - 0.3), ylim=(-0.25, len(types)))
    axis.tick_params(left=False)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["cell_type", *genes])


def distances(
    axis: Axes, nearest: dict[tuple[str, str], np.ndarray], types: list[str], palette: dict[str, str], title: str
) -> pd.DataFrame:
    """Draw the distances from the cells of each type to the nearest cell of each type, medians below.

    Parameters
    ----------
    nearest
        Of :func:`shest.score.metrics.nearest_distances`, µm.
    """
    pairs = [(a, b) for a in types for b in types if (a, b) in nearest]
    if not pairs:
        placeholder(axis, "no two cells to measure between")
        return pd.DataFrame(columns=["from", "to", "distance_um"])
    gap = {a: k * (len(types) + 1) for k, a in enumerate(types)}
    places = [gap[a] + types.index(b) for a, b in pairs]
    rng = np.random.default_rng(SEED)
    some = [np.sort(rng.permutation(nearest[pair])[:VIOLIN]) for pair in pairs]
    high = float(np.quantile(np.concatenate(some), 0.98)) or 1.0
    bodies = axis.violinplot([np.minimum(v, high) for v in some], places, widths=0.9, showextrema=False)["bodies"]
    _fill(bodies, [palette[b] for _, b in pairs])
    for place, pair in zip(places, pairs, strict=True):
        middle = float(np.median(nearest[pair]))
        axis.plot([place - 0.35, place + 0.35], [min(middle, high)] * 2, color="black", lw=0.7)
        axis.text(place, -0.02 * high, f"{middle:.0f}", ha="center", va="top", fontsize=6)
    number = {a: next((len(nearest[p]) for p in pairs if p[0] == a), 0) for a in types}
    axis.set_xticks([gap[a] + (len(types) - 1) / 2 for a in types], [f"from {a}\n(n = {number[a]:,})" for a in types])
    axis.tick_params(bottom=False)
    axis.set(ylabel="µm to the nearest", ylim=(-0.1 * high, high * 1.02), title=f"{title}; medians below (µm)")
    frames = [pd.DataFrame({"from": a, "to": b, "distance_um": v}) for (a, b), v in zip(pairs, some, strict=True)]
    return pd.concat(frames, ignore_index=True)


def moran(
    axis: Axes,
    genes: pd.DataFrame,
    side: str,
    palette: dict[str, str],
    limits: list[tuple[float, float]],
    label: int,
    title: str,
) -> pd.DataFrame:
    """Draw Moran's I, actual against reconstructed, a point a gene.

    Parameters
    ----------
    genes
        Columns gene, moran_actual, moran_{side}, marks (type that the gene marks, or missing).
    side
        What of the reconstruction: ``predicted``, the expected counts, or ``drawn`` counts.
    limits
        Of x and of y.
    label
        How many genes within 20 % of the line of identity are named, those with the highest actual first.
    """
    column = f"moran_{side}"
    actual, predicted = genes["moran_actual"], genes[column]
    inside = genes[actual.between(*limits[0]) & predicted.between(*limits[1])]
    span = np.array([min(low for low, _ in limits), max(high for _, high in limits)])
    axis.plot(span, span, color="0.5", lw=0.8, zorder=0.5)
    axis.fill_between(span, span * 0.8, span * 1.2, color="0.93", lw=0, zorder=0)
    colour = [palette.get(t, "0.65") for t in inside["marks"]]
    axis.scatter(inside["moran_actual"], inside[column], s=9, c=colour, edgecolors="0.5", linewidths=0.2)
    near = inside[(inside[column] - inside["moran_actual"]).abs() <= 0.2 * inside["moran_actual"].abs()]
    near = near.sort_values("moran_actual", ascending=False)
    places = list(near[["gene", "moran_actual", column]].head(label).itertuples(index=False))
    free = _apart(places, limits)
    for gene, *at in free:
        axis.annotate(gene, at, xytext=(2, 2), fontsize=6, textcoords="offset points", color="black")
    within = f"{len(free):,} of {len(near):,} within 20 % named" if len(near) else "none within 20 %"
    named = f"; {within}" if label else ""
    axis.set(
        xlim=limits[0],
        ylim=limits[1],
        xlabel="Moran's I, measured counts",
        ylabel=f"Moran's I, {SIDES[side]}",
        title=f"{title} (n = {len(inside):,} genes{named})",
    )
    return inside.reset_index(drop=True)


def _apart(places: Sequence[tuple], limits: Sequence[tuple[float, float]]) -> list[tuple]:
    """Leave out names that would lie over one before them: (name, x, y); a panel is some 75 mm wide and high."""
    mm = [(high - low) / 75 for low, high in limits]
    free: list[tuple] = []
    for name, x, y in places:
        ends = x + len(name) * 1.3 * mm[0]
        if all(ends < a or x > a + len(n) * 1.3 * mm[0] or abs(y - b) > 2.4 * mm[1] for n, a, b in free):
            free.append((name, x, y))
    return free


def tile(axis: Axes, image: np.ndarray, window_um: float) -> None:
    """Draw a quadruple tile (224, 224, 3) with a bar of 5 µm in its first window."""
    axis.imshow(image, interpolation="nearest")
    side = image.shape[0] / 2
    end, length = side * 0.94, BAR_UM / window_um * side
    axis.plot([end - length, end], [side * 0.93] * 2, color="black", lw=1.8, solid_capstyle="butt")
    axis.set_axis_off()
