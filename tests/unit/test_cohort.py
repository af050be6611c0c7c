"""A cohort's outcome: simulated hazards are found, chance stays chance, and patients are never on both sides."""

import warnings

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from shest.core.errors import InputErrors
from shest.draw import cohort as drawing
from shest.draw.style import plt
from shest.io.cohort import read_cohort
from shest.score import cohort

PLANTED = (3, 7)  # one raises the hazard, one lowers it


def simulated(n=90, g=30, effect=1.2, seed=0):
    """Expression, log hazard and survival (exponential, a third censored) of patients."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, g))
    hazard = effect * (x[:, PLANTED[0]] - x[:, PLANTED[1]])
    time, censored = rng.exponential(np.exp(-hazard)), rng.exponential(2, n)
    return x, hazard, cohort.Survival(np.minimum(time, censored), time <= censored)


@pytest.fixture
def quick(monkeypatch):
    """Few models to choose from: what is tested is who trains on whom."""
    monkeypatch.setattr(cohort.choose, "__defaults__", ((2, 5),))
    monkeypatch.setattr(cohort.Survival, "strengths", (0.1,))


def share(outcome, risk):
    right, pairs = outcome.pairs(risk[:, None])
    return right[0] / pairs


def test_concordance_is_that_of_lifelines_and_sklearn_ties_included():
    rng = np.random.default_rng(1)
    time, event = rng.integers(1, 12, 60).astype(float), rng.random(60) < 0.6
    risk = rng.integers(0, 8, 60).astype(float)
    assert share(cohort.Survival(time, event), risk) == pytest.approx(concordance_index(time, -risk, event))
    assert share(cohort.Response(event), risk) == pytest.approx(roc_auc_score(event, risk))


def test_a_gene_alone_has_the_c_index_of_its_cox_model():
    x, _, outcome = simulated(n=60, g=8)
    inside = cohort.in_sample(x, outcome)
    for gene in range(8):
        frame = pd.DataFrame({"x": x[:, gene], "time": outcome.time, "event": outcome.event})
        fitted = CoxPHFitter().fit(frame, "time", "event")
        assert inside.genes[gene] == pytest.approx(fitted.concordance_index_)
        assert inside.direction[gene] == np.sign(fitted.params_["x"])


def test_planted_genes_are_found_and_the_model_is_about_as_good_as_the_truth(quick):
    x, hazard, outcome = simulated()
    outside = cohort.out_of_fold(x, outcome, 3, 1, 1)
    chance = cohort.best_by_chance(x, outcome, 1)
    table = cohort.gene_table([f"g{k}" for k in range(30)], outside, cohort.in_sample(x, outcome), chance, "c_index")
    assert set(table["gene"][table["p"] < 0.05]) == {f"g{k}" for k in PLANTED}
    assert set(table["gene"].head(2)) == {f"g{k}" for k in PLANTED}
    assert table.set_index("gene").loc["g3", "direction"] == 1
    assert table.set_index("gene").loc["g7", "direction"] == -1
    assert outside.chosen[list(PLANTED)] == pytest.approx([1, 1])
    assert abs(outside.model.mean() - share(outcome, hazard)) < 0.05
    high = cohort.halves(outside.standing)
    assert cohort.log_rank(outcome, high) < 1e-4
    assert hazard[high].mean() > hazard[~high].mean() + 1


@pytest.mark.parametrize("kind", ["survival", "svm", "logistic"])
def test_a_permuted_outcome_is_chance_out_of_fold_and_seems_told_in_sample(quick, kind):
    x, hazard, outcome = simulated(g=60)
    if kind != "survival":
        outcome = cohort.Response(hazard > 0, kind)
    scores = []
    for seed in range(3):
        permuted = outcome.take(np.random.default_rng(seed).permutation(len(x)))
        scores.append((cohort.out_of_fold(x, permuted, 3, 1, 1).model.mean(), cohort.in_sample(x, permuted).model))
    outside, inside = np.mean(scores, axis=0)
    assert abs(outside - 0.5) < 0.08
    assert inside > 0.62
    assert inside > outside + 0.1


def test_the_best_gene_of_a_permuted_outcome_has_a_p_that_says_so(monkeypatch):
    """Of 20 permuted outcomes about one has a p under 0.05, for the best of 40 genes."""
    monkeypatch.setattr(cohort, "PERMUTATIONS", 60)
    x, _, outcome = simulated(n=40, g=40)
    p = []
    for seed in range(20):
        permuted = outcome.take(np.random.default_rng(seed).permutation(len(x)))
        right, pairs = permuted.pairs(x * permuted.direction(x))
        chance = cohort.best_by_chance(x, permuted, 1)
        p.append((chance >= right.max() / pairs).mean())
    assert np.mean(np.array(p) < 0.05) < 0.2
    assert 0.3 < np.mean(p) < 0.7


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_a_response_that_a_gene_tells_is_told(kind):
    x, hazard, _ = simulated()
    outside = cohort.out_of_fold(x, cohort.Response(hazard > 0, kind), 3, 1, 1)
    assert outside.model[0] > 0.9
    assert outside.genes.mean(axis=0).argsort()[-2:].tolist() in ([3, 7], [7, 3])


def test_nothing_of_a_test_patient_reaches_the_models_that_score_others(quick, monkeypatch):
    """Other outcomes of the test patients change neither genes nor risks."""
    x, _, outcome = simulated(n=60, g=12)
    train, test = next(cohort.split(outcome, 3, 5))
    assert not set(train) & set(test)
    time = outcome.time.copy()
    time[test] = time[test][::-1] * 7
    monkeypatch.setattr(cohort, "split", lambda o, folds, seed: iter([(train, test)]) if len(o) == 60 else real(o))

    def real(o):
        rows = np.arange(len(o))
        return iter([(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)])

    first, second = (cohort.out_of_fold(x, cohort.Survival(t, outcome.event), 3, 1, 5) for t in (outcome.time, time))
    assert np.array_equal(first.standing, second.standing)
    assert np.array_equal(first.chosen, second.chosen)
    assert first.model[0] != second.model[0]


def test_slides_of_a_patient_are_one_row():
    slides = [f"s{k}" for k in range(6)]
    expression = pd.DataFrame({"a": [0, 2, 4, 4, 6, 9.0], "b": 1.0}, index=slides)
    rows = {"sample": [*slides, "lost"], "patient": list("ppqqrrr"), "response": [1, 1, 0, 0, 1, 1, 1]}
    genes, outcome = cohort.by_patient(expression, pd.DataFrame(rows))
    assert list(genes.index) == ["p", "q", "r"]
    assert genes["a"].tolist() == pytest.approx(np.log1p([1, 4, 7.5]).tolist())
    assert outcome.response.tolist() == [True, False, True]


def test_the_same_seed_gives_the_same(quick):
    x, _, outcome = simulated(n=45, g=10)
    first, second, other = (cohort.out_of_fold(x, outcome, 3, 1, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.standing, second.standing)
    assert not np.array_equal(first.standing, other.standing)


def test_a_cohort_that_is_too_small_is_said_to_be():
    outcome = cohort.Response(np.arange(20) < 5)
    assert cohort.too_few(outcome, 3) == "5 patients with response 1, and 6 are needed"
    assert cohort.too_few(cohort.Survival(np.arange(20.0), np.arange(20) < 6), 3) == ""


TABLE = "sample\tpatient\ttime\tevent\n"
GOOD = "a\tp\t3.5\t1\nb\tp\t3.5\t1\nc\tq\t2\t0\n"


def written(tmp_path, text):
    path = tmp_path / "cohort.tsv"
    path.write_text(text)
    return path


def test_a_good_table_is_read(tmp_path):
    table = read_cohort(written(tmp_path, TABLE + GOOD), ["a", "b", "c", "d"])
    assert table["time"].tolist() == [3.5, 3.5, 2]
    assert table["event"].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE + GOOD + "cc\tr\t1\t1\n", "sample cc is no slide of the sheet. Did you mean c?"),
        ("sample\tpatient\ttime\na\tp\t1\n", "lacks column event"),
        ("sample\tresponse\na\t1\n", "lacks column patient"),
        (TABLE + "a\tp\t-3\t1\n", "time of sample a is -3, not a number that is 0 or more"),
        (TABLE + "a\tp\tlong\t1\n", "time of sample a is long, not a number that is 0 or more"),
        (TABLE + "a\tp\t3\t2\n", "event of sample a is 2, not 0 or 1"),
        ("sample\tpatient\tresponse\na\tp\t\n", "response of sample a is empty, not 0 or 1"),
        (TABLE + GOOD.replace("b\tp\t3.5", "b\tp\t4"), "patient p has more than one time and event"),
        (TABLE + GOOD + "c\tq\t2\t0\n", "sample c has more than one row"),
        (TABLE + "a\t\t2\t0\n", "column patient is empty in 1 rows"),
        ("sample\tpatient\ttime\tevent\tresponse\na\tp\t1\t1\t1\n", "has the columns of survival and of response"),
        (TABLE, "has no rows"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(InputErrors) as error:
        read_cohort(path, ["a", "b", "c"])
    assert str(error.value).startswith(f"{path}: {said}")
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("kind", ["survival", "response"])
def test_the_figure_is_a_page_wide_and_shows_what_was_computed(quick, kind):
    x, hazard, outcome = simulated(n=60, g=25)
    outcome = outcome if kind == "survival" else cohort.Response(hazard > 0)
    outside, inside = cohort.out_of_fold(x, outcome, 3, 1, 1), cohort.in_sample(x, outcome)
    table = cohort.gene_table([f"g{k}" for k in range(25)], outside, inside, np.array([0.6]), outcome.measure)
    part = {outcome.measure: 0.7, "log_rank_p": 0.01}
    shown = {"out_of_fold": part, "in_sample": part, "best_gene_by_chance": 0.6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure, data = drawing.figure(outcome, outside, inside, table, shown)
    assert figure.get_figwidth() * 25.4 == pytest.approx(180)
    assert list(data) == ["a", "b", "c"]
    assert data["a"]["gene"].tolist() == table["gene"].head(20).tolist()
    if kind == "survival":
        high = cohort.halves(outside.standing)
        ends = data["b"].groupby("risk")["time"].max()
        assert ends["high"] == pytest.approx(outcome.time[high].max())
        assert ends["low"] == pytest.approx(outcome.time[~high].max())
    plt.close(figure)
