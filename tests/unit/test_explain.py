"""LIME on nuclei: what drives a planted prediction is found, by pixels and by embeddings."""

import numpy as np
import pytest
from scipy.stats import poisson

from shest.core.errors import InputError
from shest.draw import explain as drawing
from shest.draw.style import plt
from shest.encode.morphometrics import Morphometrics, feature_names
from shest.run import explain
from shest.systems.base import Prediction, System, Trained
from shest.tiles.raster import rasterise

SIDE, ORIGIN = 64, (100, 200)
CENTRES = [(31.5, 31.5), (12, 14), (50, 12), (14, 50), (52, 50)]  # in the window; the first is the unit's own


def ring(x, y, radius=7.0):
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)]) + ORIGIN


RINGS = [ring(x, y) for x, y in CENTRES] + [ring(300, 300)]  # the last lies elsewhere
PARTS = explain.segments(RINGS, ORIGIN, (SIDE, SIDE))


@pytest.fixture(scope="module")
def window():
    """Purple nuclei on pink, with some noise."""
    rng = np.random.default_rng(0)
    image = np.where((PARTS > 0)[..., None], [120, 70, 150], [235, 190, 210]) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def brightness_of(*numbers):
    """Predict the mean red of some nuclei, each one thing."""
    return lambda windows: np.column_stack([windows[:, n == PARTS, 0].mean(axis=1) / 100 for n in numbers])


def test_segments_are_the_nuclei_that_reach_into_the_window():
    assert np.unique(PARTS).tolist() == [0, 1, 2, 3, 4, 5]
    for number, (x, y) in enumerate(CENTRES, start=1):
        assert PARTS[round(y), round(x)] == number
        assert (number == PARTS).sum() == pytest.approx(np.pi * 7**2, rel=0.05)


def test_the_nucleus_that_drives_a_prediction_has_its_weight(window):
    whole = brightness_of(4, 2)(window[None])[0]
    weight = explain.explain(window, PARTS, brightness_of(4, 2), seed=1)
    assert weight.index.tolist() == [0, 1, 2, 3, 4, 5]
    for column, driver in ((0, 4), (1, 2)):
        assert weight[column].idxmax() == driver
        assert weight.loc[driver, column] == pytest.approx(whole[column], rel=0.1)  # hidden, all of it is gone
        assert weight[column].drop(driver).abs().max() < 0.05 * whole[column]


def test_hiding_what_has_weight_takes_it_from_the_prediction(window):
    predict = brightness_of(4)
    weight = explain.explain(window, PARTS, predict, seed=1)[0]
    hidden = window.copy()
    hidden[weight.idxmax() == PARTS] = 0
    lost = (predict(window[None]) - predict(hidden[None])).item()
    assert lost == pytest.approx(weight.max(), rel=0.1)


def test_the_same_seed_gives_the_same_bytes(window):
    first, second, other = (explain.explain(window, PARTS, brightness_of(4), seed, 60) for seed in (1, 1, 2))
    assert first.to_numpy().tobytes() == second.to_numpy().tobytes()
    assert first.to_numpy().tobytes() != other.to_numpy().tobytes()


def test_nuclei_that_leave_no_ground_are_explained(window):
    parts = np.where(np.arange(SIDE)[:, None] < 32, 1, 3) + np.zeros((SIDE, SIDE), np.int64)

    def predict(windows):
        return windows[:, :32].mean(axis=(1, 2, 3))[:, None]

    weight = explain.explain(window, parts, predict, seed=1, samples=40)
    assert weight.index.tolist() == [1, 3]
    assert weight[0].idxmax() == 1


class Red(System):
    """Expects of its gene what the mean red of the unit's nucleus says, and draws from a Poisson distribution."""

    column = feature_names().index("nucleus_mean_r")

    def __init__(self):
        super().__init__({})

    def fit(self, data, advance): ...
    def tensors(self): ...
    def restore(self, tensors, info): ...

    def predict(self, x, expression=True):
        red = np.asarray(x, float)[:, self.column]
        return Prediction(expected=np.column_stack([np.full(len(red), 7.0), red / 10]))

    def draw(self, x, keys):
        rngs = (np.random.default_rng(int(key)) for key in keys)
        return np.array([rng.poisson(row) for rng, row in zip(rngs, self.predict(x).expected, strict=True)], np.uint16)


@pytest.fixture(scope="module")
def unit():
    """What sees windows, and the mask of the unit's own nucleus."""
    start = np.array([0, len(RINGS[0])])
    return Morphometrics(1), rasterise(RINGS[0], start, np.array([ORIGIN]), (SIDE, SIDE))[0]


def test_a_system_on_embeddings_is_explained_by_the_nucleus_that_it_looks_at(window, unit):
    weight = explain.explain(window, PARTS, explain.expectation(Trained(Red(), {}), *unit, [1]), 1, 120)[0]
    assert weight.idxmax() == 1
    assert weight[1] > 8
    assert weight[0] < 2  # at the rim of the nucleus its pixels are mixed with the ground
    assert weight.drop([0, 1]).abs().max() < 0.5


def test_the_probability_to_be_high_falls_when_that_nucleus_is_hidden(window, unit):
    model, mean = Trained(Red(), {"kind": "red"}), np.array([8.0])
    predict = explain.probability_high(model, *unit, [1], mean)
    expected = explain.expectation(model, *unit, [1])(window[None]).item()
    assert predict(window[None]).item() == pytest.approx(poisson.sf(8, expected), abs=0.12)  # of 100 draws
    weight = explain.explain(window, PARTS, predict, 1, 60)[0]
    assert weight.idxmax() == 1
    assert weight[1] > 0.6
    assert weight.drop(1).abs().max() < 0.1


def test_a_system_without_a_distribution_has_no_such_probability(window, unit, monkeypatch):
    monkeypatch.setattr(Red, "draw", System.draw)
    with pytest.raises(InputError, match="red predicts no distribution"):
        explain.probability_high(Trained(Red(), {"kind": "red"}), *unit, [1], np.array([8.0]))(window[None])


def test_the_picture_colours_each_nucleus_by_its_weight(window):
    weight = explain.explain(window, PARTS, brightness_of(4), 1, 60)[0]
    figure = drawing.figure(window, RINGS, ORIGIN, weight, (0.25, 0.25), "unit 1", "gene, counts")
    coloured = figure.axes[1]
    fills = [patch.get_facecolor() for patch in coloured.patches]
    assert len(fills) == 5
    redness = [r - b for r, _, b, _ in fills]
    assert np.argmax(redness) == 3
    assert max(np.delete(redness, 3)) < 0.2 < redness[3]
    corners = coloured.patches[3].get_xy()
    assert np.abs(corners[:-1].mean(axis=0) - (np.array(CENTRES[3]) + 0.5) * 0.25).max() < 0.01
    plt.close(figure)
