"""Figures for print: width and height of a page, no empty places, letters, sizes of text."""

from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.text import Text

from shest.draw import layout, style
from shest.draw.layout import Panel

MM = 25.4


def lines(letters):
    """A panel of a line a letter."""

    def draw(axes):
        for axis in axes.flat:
            axis.plot([0, 1])
            axis.set_title("A title of several words that does not fit into a narrow panel")
        return {letter: pd.DataFrame({"x": [1]}) for letter in letters}

    return draw


def composed(rows, **options):
    figure, data = layout.compose("Whose results, in words", rows, **options)
    figure.canvas.draw()
    return figure, data


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def size_mm(figure):
    return [side * MM for side in figure.get_size_inches()]


@pytest.fixture(autouse=True)
def closed():
    yield
    style.plt.close("all")


def test_a_page_wide_and_as_tall_as_its_panels():
    figure, data = composed([(50, [Panel("A", lines("A")), Panel("B", lines("B"))]), (40, [Panel("C", lines("C"))])])
    width, height = size_mm(figure)
    assert width == pytest.approx(180)
    assert 90 < height < 100
    assert list(data) == ["A", "B", "C"]


def test_never_taller_than_a_page():
    figure, _ = composed([(100, [Panel(letter, lines(letter))]) for letter in "ABCD"], legend={"a": "red"}, notes=["n"])
    assert size_mm(figure)[1] <= 230.01


def test_a_panel_that_cannot_be_drawn_takes_no_room_and_is_named_below():
    rows = [
        (50, [Panel("A", lines("A")), Panel("B", lines("B"), "nothing was given")]),
        (60, [Panel("C", None, "too")]),
    ]
    figure, data = composed(rows)
    assert list(data) == ["A"]
    assert len([axis for axis in figure.findobj(style.plt.Axes) if axis.lines]) == 1
    assert size_mm(figure)[1] < 65
    assert any("B: nothing was given." in text and "C: too." in text for text in texts(figure))


def test_the_same_reason_is_given_once():
    figure, _ = composed([(50, [Panel("A", None, "no sample"), Panel("BC", None, "no sample")])])
    assert any("A, B, C: no sample." in text for text in texts(figure))


def test_a_figure_of_nothing_says_why():
    figure, data = layout.none("ABCD", "no external sample in the sheet")
    assert not data
    assert any("A, B, C, D: no external sample in the sheet." in text for text in texts(figure))


def test_letters_stand_before_titles_that_fit_their_panel():
    figure, _ = composed([(50, [Panel("AB", lines("AB"), shape=(1, 2)), Panel("C", lines("C"))])])
    titles = [axis.texts[-1] for axis in figure.findobj(style.plt.Axes) if axis.lines]
    assert [title.get_text()[9] for title in titles] == ["A", "B", "C"]
    boxes = [title.get_window_extent() for title in titles]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert boxes[-1].x1 < figure.bbox.x1
    assert "\n" in titles[0].get_text()


def test_text_is_of_six_to_eight_points():
    figure, _ = composed([(50, [Panel("A", lines("A"))])], legend={"a": "red", "b": "blue"}, notes=["a note"])
    sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text().strip()}
    assert min(sizes) >= 6
    assert max(sizes) <= 8


def test_the_legend_stands_once():
    figure, _ = composed([(40, [Panel("A", lines("A"))]), (40, [Panel("B", lines("B"))])], legend={"Tumour": "red"})
    assert texts(figure).count("Tumour") == 1
