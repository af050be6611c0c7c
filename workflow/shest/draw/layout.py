"""A figure of panels for print: as wide as a page, no taller than one, and no empty places.

A panel that cannot be drawn takes no room: its letter and the reason stand in one line below the others.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from shest.draw.style import plt

WIDTH_MM, TALLEST_MM = 180.0, 230.0  # a page of two columns
LINE_MM, LETTER_MM = 3.4, 1.28  # a line of text of the figure's size, and a letter of it on average
LEGEND_MM = 5.0
MM = 1 / 25.4


@dataclass(frozen=True)
class Panel:
    """One panel, or several that are drawn together.

    Attributes
    ----------
    letters
        Its name; one for each of its first axes.
    draw
        Called with its axes (an array of ``shape``), draws them and returns the data of each panel by name; None of one
        that cannot be drawn.
    why
        Why it cannot be drawn; empty where it can.
    shape
        Rows and columns of axes.
    width
        Relative to the other panels of its row.
    """

    letters: str
    draw: Callable[[np.ndarray], Mapping[str, pd.DataFrame]] | None
    why: str = ""
    shape: tuple[int, int] = (1, 1)
    width: float = 1.0


Row = tuple[float, Sequence[Panel]]  # height in mm, panels from left to right


def compose(
    title: str, rows: Sequence[Row], legend: Mapping[str, str] | None = None, notes: Iterable[str] = ()
) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Lay panels out and draw them.

    Parameters
    ----------
    title
        What is shown of whom, above all panels.
    rows
        From top to bottom; a row of which no panel can be drawn is left out. Heights shrink together where they would
        pass a page.
    legend
        Colour of each name, once for all panels.
    notes
        Further lines below the panels.

    Returns
    -------
    The figure, and the data of each panel by name.
    """
    below = wrap("   ".join([*_left_out(p for _, panels in rows for p in panels if p.why), *notes]), WIDTH_MM)
    above = wrap(title, WIDTH_MM, bold=True)
    kept = [(height, drawn) for height, panels in rows if (drawn := [p for p in panels if not p.why])]
    top, foot = _lines_mm(above) + 2, _lines_mm(below) + 1 if below else 0
    strip = LEGEND_MM * -(-len(legend) // 6) if legend and kept else 0
    heights = np.array([height for height, _ in kept])
    if kept:
        heights = heights * min(1, (TALLEST_MM - top - strip - foot) / heights.sum())
    sizes = [top, *heights, *([strip] if strip else []), *([foot] if foot else [])]
    figure = plt.figure(figsize=(WIDTH_MM * MM, sum(sizes) * MM))
    parts = list(np.atleast_1d(figure.subfigures(len(sizes), 1, height_ratios=sizes, hspace=0)))
    parts.pop(0).text(0.005, 0.85, above, ha="left", va="top", fontweight="bold", fontsize=8)
    if foot:
        parts.pop().text(0.005, 0.98, below, ha="left", va="top", fontsize=6.5, color="0.25")
    if strip:
        handles = [
            plt.Line2D([], [], ls="", marker="o", ms=4, mfc=colour, mec="0.6", mew=0.3, label=name)
            for name, colour in legend.items()
        ]
        parts.pop().legend(handles=handles, loc="center", ncols=6, frameon=False, fontsize=6.5, handletextpad=0.1)
    data: dict[str, pd.DataFrame] = {}
    drawn = []
    for part, (_, panels) in zip(parts, kept, strict=True):
        found, axes = _draw_row(part, panels)
        data |= found
        drawn += axes
    _name(figure, drawn)
    _settle(figure)
    return figure, data


def _left_out(panels: Iterable[Panel]) -> list[str]:
    """Say why panels are left out, those for the same reason together."""
    letters: dict[str, list[str]] = {}
    for panel in panels:
        letters.setdefault(panel.why, []).extend(panel.letters)
    return [f"{', '.join(names)}: {why}." for why, names in letters.items()]


def _lines_mm(text: str) -> float:
    """Return the height of some lines of text, mm."""
    return (text.count("\n") + 1) * LINE_MM


def _draw_row(part: SubFigure, panels: Sequence[Panel]) -> tuple[dict[str, pd.DataFrame], list]:
    """Draw the panels of a row side by side; return their data, and of each its place, panel and axes."""
    data: dict[str, pd.DataFrame] = {}
    widths = np.array([p.width for p in panels]) / sum(p.width for p in panels)
    places = np.atleast_1d(part.subfigures(1, len(panels), width_ratios=widths))
    drawn = []
    for place, panel in zip(places, panels, strict=True):
        axes = place.subplots(*panel.shape, squeeze=False)
        data |= panel.draw(axes)
        drawn.append((place, panel, axes))
    return data, drawn


def _name(figure: Figure, drawn: Sequence[tuple[SubFigure, Panel, np.ndarray]]) -> None:
    """Put each panel's letter before its title, at the left; a title has the room up to the next one in its row."""
    for _, panel, axes in drawn:
        for axis in list(axes.flat)[: len(panel.letters)]:  # a letter needs the height of a line
            axis.set_title(axis.get_title() or " ")
    figure.draw_without_rendering()  # where the axes lie is known from here on
    for place, panel, axes in drawn:
        letters = dict(zip(axes.flat, panel.letters, strict=False))
        for line in axes:
            end = place.bbox.x1
            for axis in line[::-1]:
                if not axis.get_title():
                    continue
                letter, begin = letters.get(axis, ""), axis.get_window_extent().x0
                text = wrap(axis.get_title().strip(), (end - begin) / figure.dpi / MM - (6 if letter else 2))
                axis.set_title("\n".join(" " for _ in text.splitlines()) or " ")  # holds its height
                full = "  ".join(filter(None, [rf"$\mathbf{{{letter}}}$" if letter else "", text]))
                # not as a title: one that passes its axis would push the next away
                at = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
                axis.annotate(full, (0, 1), **at, ha="left", va="bottom", annotation_clip=False).set_in_layout(False)
                end = begin


def _settle(figure: Figure) -> None:
    """Lay out for good, to 1e-4 of a part: the layout adds up in an order that differs from process to process."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.findobj(SubFigure):
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(4))
    for axis in figure.findobj(Axes):
        axis.set_position([round(float(value), 4) for value in axis.get_position(original=True).bounds])


def wrap(text: str, width_mm: float, bold: bool = False) -> str:
    """Break text into lines that are no wider than this at the figure's size."""
    letters = max(int(width_mm / (LETTER_MM * (1.15 if bold else 1))), 12)
    return "\n".join(
        line for part in text.splitlines() for line in textwrap.wrap(part, letters, break_long_words=False) or [""]
    )


def none(letters: str, why: str) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Lay out a figure of which no panel can be drawn."""
    return compose(why[:1].upper() + why[1:], [(0.0, [Panel(letters, None, why)])])
