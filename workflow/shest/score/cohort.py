"""A cohort's outcome from the expression that is predicted of its slides: gene by gene, and by models of several genes.

Everything is done by patient, and twice: out of fold, where directions, genes and models are of the training patients
alone, and in sample, the published way (genes picked, model fitted and scored on the same patients), which promises
more than is there.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

Risk = Callable[[np.ndarray], np.ndarray]  # of patients (n, k) the risk (n,), or what tells a responder
COUNTS = (1, 2, 5, 10)  # genes of a model; inner folds choose
PERMUTATIONS = 200  # of the outcome, for how good the best of all genes is by chance
PUBLISHED = 5  # genes that the in-sample model takes (Tan et al. 2026, Fig. 5)
INNER = 3  # folds within the training patients


class Outcome(Protocol):
    """What became of the patients, and how it is modelled and measured; 0.5 is chance of every measure."""

    measure: str  # its name
    strengths: tuple[float, ...]  # of the penalty, strongest first; inner folds choose

    def __len__(self) -> int: ...
    def take(self, rows: np.ndarray) -> "Outcome": ...
    def strata(self) -> np.ndarray: ...
    def direction(self, x: np.ndarray) -> np.ndarray: ...
    def pairs(self, risk: np.ndarray) -> tuple[np.ndarray, int]: ...
    def fit(self, x: np.ndarray, strength: float) -> Risk: ...


@dataclass(frozen=True)
class Survival:
    """``time`` (n,) until the event or the end of observation, and whether the ``event`` (n,) was seen."""

    time: np.ndarray
    event: np.ndarray
    measure = "c_index"
    strengths = (1.0, 0.1)

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: np.ndarray) -> "Survival":
        return Survival(self.time[rows], self.event[rows])

    def strata(self) -> np.ndarray:
        return self.event.astype(int)

    def direction(self, x: np.ndarray) -> np.ndarray:
        """Tell for each column of x (n, g) whether a Cox model of it alone has a positive coefficient: 1, else -1.

        The partial likelihood is concave, so that its slope at 0 has the coefficient's sign (Breslow's ties).
        """
        slope = np.zeros(x.shape[1])
        for i in np.flatnonzero(self.event):
            slope += x[i] - x[self.time >= self.time[i]].mean(axis=0)
        return np.where(slope < 0, -1.0, 1.0)

    def pairs(self, risk: np.ndarray) -> tuple[np.ndarray, int]:
        """Concordant pairs (g,) of risks (n, g), and pairs that can be compared (Harrell 1982); ties count half."""
        concordant, comparable = np.zeros(risk.shape[1]), 0
        for i in np.flatnonzero(self.event):
            later = (self.time > self.time[i]) | ((self.time == self.time[i]) & ~self.event)
            other = risk[later]
            concordant += (risk[i] > other).sum(axis=0) + 0.5 * (risk[i] == other).sum(axis=0)
            comparable += len(other)
        return concordant, comparable

    def fit(self, x: np.ndarray, strength: float) -> Risk:
        """Fit a Cox model with a ridge penalty (lifelines)."""
        from lifelines import CoxPHFitter

        frame = pd.DataFrame(x).assign(time=self.time, event=self.event)
        coefficients = CoxPHFitter(penalizer=strength).fit(frame, "time", "event").params_.to_numpy()
        return lambda new: new @ coefficients


@dataclass(frozen=True)
class Response:
    """``response`` (n,), bool, and the ``model`` that tells it: svm (radial kernel) or logistic."""

    response: np.ndarray
    model: str = "svm"
    measure = "auc"
    strengths = (0.1, 1.0, 10.0)  # of C: sklearn's is the inverse of a penalty

    def __len__(self) -> int:
        return len(self.response)

    def take(self, rows: np.ndarray) -> "Response":
        return Response(self.response[rows], self.model)

    def strata(self) -> np.ndarray:
        return self.response.astype(int)

    def direction(self, x: np.ndarray) -> np.ndarray:
        """Tell for each column of x (n, g) whether responders mostly have more of it: 1, else -1."""
        concordant, comparable = self.pairs(x)
        return np.where(2 * concordant < comparable, -1.0, 1.0)

    def pairs(self, risk: np.ndarray) -> tuple[np.ndarray, int]:
        """Pairs (g,) of a responder and another in which the responder has more, and their number; ties count half."""
        others, concordant = risk[~self.response], np.zeros(risk.shape[1])
        for one in risk[self.response]:
            concordant += (one > others).sum(axis=0) + 0.5 * (one == others).sum(axis=0)
        return concordant, len(others) * int(self.response.sum())

    def fit(self, x: np.ndarray, strength: float) -> Risk:
        """Fit the classifier, classes weighed alike."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC

        kinds = {"svm": SVC, "logistic": LogisticRegression}
        return kinds[self.model](C=strength, class_weight="balanced").fit(x, self.response).decision_function


def by_patient(
    expression: pd.DataFrame, table: pd.DataFrame, model: str = "svm"
) -> tuple[pd.DataFrame, Survival | Response]:
    """Average the slides of each patient.

    Parameters
    ----------
    expression
        Slides × genes, mean expected counts of a cell.
    table
        See :func:`shest.io.cohort.read_cohort`; slides without expression are left out.

    Returns
    -------
    Patients × genes, log1p of the mean over their slides, and their outcome.
    """
    table = table[table["sample"].isin(expression.index)]
    mean = expression.loc[table["sample"]].groupby(table["patient"].to_numpy()).mean()
    of = table.drop_duplicates("patient").set_index("patient").loc[mean.index]
    if "response" in of:
        return np.log1p(mean), Response(of["response"].to_numpy(bool), model)
    return np.log1p(mean), Survival(of["time"].to_numpy(float), of["event"].to_numpy(bool))


def too_few(outcome: Outcome, folds: int) -> str:
    """Say why a cohort cannot be divided into folds and these again; empty where it can.

    Each inner fold must hold one patient with the event (or response), and one without where they are classes.
    """
    least = 2 * max(folds, INNER)
    strata = outcome.strata()
    counted = {"with an event": int(strata.sum())}
    if isinstance(outcome, Response):
        counted = {"with response 1": int(strata.sum()), "with response 0": int((strata == 0).sum())}
    lacking = [f"{n} {'patient' if n == 1 else 'patients'} {what}" for what, n in counted.items() if n < least]
    return f"{' and '.join(lacking)}, and {least} are needed" if lacking else ""


def split(outcome: Outcome, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the training and the test patients of each fold, events (or responses) spread over the folds."""
    from sklearn.model_selection import StratifiedKFold

    strata = outcome.strata()
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata)


def rank(x: np.ndarray, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Return the genes that vary, best first by their own c-index (AUC), and the direction (g,) of every gene."""
    direction = outcome.direction(x)
    concordant, _ = outcome.pairs(x * direction)
    order = np.argsort(-concordant, kind="stable")
    return order[x.std(axis=0)[order] > 0], direction


@dataclass(frozen=True)
class Fitted:
    """A model of some genes: which, how they are scaled, and the risk that it gives."""

    genes: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    risk: Risk

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Risk (n,) of patients (n, all genes)."""
        return self.risk((x[:, self.genes] - self.mean) / self.deviation)


def fit(x: np.ndarray, outcome: Outcome, genes: np.ndarray, strength: float) -> Fitted:
    """Fit a model to the given genes of x (n, g), scaled to these patients' mean and deviation."""
    mean, deviation = x[:, genes].mean(axis=0), x[:, genes].std(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a gene that all but separates: the penalty holds it
        return Fitted(genes, mean, deviation, outcome.fit((x[:, genes] - mean) / deviation, strength))


def choose(x: np.ndarray, outcome: Outcome, seed: int, counts: Sequence[int] = COUNTS) -> tuple[int, float]:
    """Return the number of genes and the penalty that do best in folds of these patients; the simplest of equals."""
    options = [(k, strength) for k in counts if k <= x.shape[1] for strength in outcome.strengths]
    total = np.zeros(len(options))
    for train, test in split(outcome, INNER, seed):
        inner = outcome.take(train)
        order, _ = rank(x[train], inner)
        risks = [fit(x[train], inner, order[:k], strength)(x[test]) for k, strength in options]
        total += outcome.take(test).pairs(np.column_stack(risks))[0]
    return options[int(np.argmax(total))]


@dataclass
class OutOfFold:
    """What models and genes say of patients that they were not made of.

    Attributes
    ----------
    model
        (repeats,) c-index or AUC of the model, of pairs within a test fold.
    genes
        (repeats, g) that of each gene alone, in the direction that it has among the training patients.
    standing
        (n,) share of the training patients with a lower risk than this one, mean over the repeats.
    chosen
        (g,) share of the models that hold the gene.
    counts
        (repeats × folds,) genes of each model.
    """

    model: np.ndarray
    genes: np.ndarray
    standing: np.ndarray
    chosen: np.ndarray
    counts: np.ndarray


def out_of_fold(
    x: np.ndarray, outcome: Outcome, folds: int, repeats: int, seed: int, advance: Callable[[int], Any] = lambda n: None
) -> OutOfFold:
    """Rank genes, choose and fit a model on the training patients of each fold, and score it on the others.

    Parameters
    ----------
    x
        (n, g), a row a patient.
    advance
        Called with 1 after each fold.
    """
    model, genes, counts = np.zeros(repeats), np.zeros((repeats, x.shape[1])), []
    standing, chosen = np.zeros(len(x)), np.zeros(x.shape[1])
    for repeat in range(repeats):
        concordant, of_genes, comparable = 0.0, np.zeros(x.shape[1]), 0
        for train, test in split(outcome, folds, seed + repeat):
            own, others = outcome.take(train), outcome.take(test)
            order, direction = rank(x[train], own)
            k, strength = choose(x[train], own, seed + repeat)
            fitted = fit(x[train], own, order[:k], strength)
            risk = fitted(x[test])
            right, pairs = others.pairs(np.column_stack([risk, x[test] * direction]))
            concordant, of_genes, comparable = concordant + right[0], of_genes + right[1:], comparable + pairs
            standing[test] += (fitted(x[train]) < risk[:, None]).mean(axis=1) / repeats
            chosen[fitted.genes] += 1 / (repeats * folds)
            counts.append(k)
            advance(1)
        model[repeat], genes[repeat] = concordant / comparable, of_genes / comparable
    return OutOfFold(model, genes, standing, chosen, np.array(counts))


@dataclass(frozen=True)
class InSample:
    """The published way: genes (g,) and a model of the best, each scored on the patients that it is made of.

    ``standing`` (n,): share of all patients with a lower risk.
    """

    model: float
    genes: np.ndarray
    direction: np.ndarray
    best: np.ndarray
    standing: np.ndarray


def in_sample(x: np.ndarray, outcome: Outcome) -> InSample:
    """Pick the best genes among all patients, and fit and score their model on the same."""
    order, direction = rank(x, outcome)
    fitted = fit(x, outcome, order[:PUBLISHED], outcome.strengths[-1])
    risk = fitted(x)
    right, pairs = outcome.pairs(np.column_stack([risk, x * direction]))
    standing = (risk < risk[:, None]).mean(axis=1)
    return InSample(right[0] / pairs, right[1:] / pairs, direction, order[:PUBLISHED], standing)


def best_by_chance(x: np.ndarray, outcome: Outcome, seed: int) -> np.ndarray:
    """In-sample c-index (AUC) of the best of all genes, for each of :data:`PERMUTATIONS` permuted outcomes."""
    rng, best = np.random.default_rng(seed), np.empty(PERMUTATIONS)
    for number in range(PERMUTATIONS):
        permuted = outcome.take(rng.permutation(len(outcome)))
        right, pairs = permuted.pairs(x * permuted.direction(x))
        best[number] = right.max() / pairs
    return best


def halves(standing: np.ndarray) -> np.ndarray:
    """Tell who is above the median risk (n,) of the patients that the risk was made of."""
    return standing >= 0.5


def log_rank(outcome: Survival, high: np.ndarray) -> float:
    """p of the log-rank test between two groups (lifelines); NaN where one is empty.

    Out of fold the two were told apart by models that share patients: the p is near, not exact.
    """
    from lifelines.statistics import logrank_test

    if high.all() or not high.any():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(
            logrank_test(outcome.time[high], outcome.time[~high], outcome.event[high], outcome.event[~high]).p_value
        )


def gene_table(
    names: Sequence[str], outside: OutOfFold, inside: InSample, chance: np.ndarray, measure: str
) -> pd.DataFrame:
    """A row a gene, best out of fold first.

    ``direction`` 1: more of it, more risk (or response). ``p``: share of the permuted outcomes whose best gene does as
    well as this one does, both in sample (Westfall & Young 1993, single step): it holds for all genes at once.
    """
    p = (1 + (chance[:, None] >= inside.genes - 1e-12).sum(axis=0)) / (1 + len(chance))
    table = pd.DataFrame(
        {
            "gene": list(names),
            f"{measure}_out_of_fold": outside.genes.mean(axis=0),
            "deviation": outside.genes.std(axis=0),
            f"{measure}_in_sample": inside.genes,
            "p": p,
            "direction": inside.direction.astype(int),
            "chosen": outside.chosen,
        }
    )
    return table.sort_values(f"{measure}_out_of_fold", ascending=False, kind="stable", ignore_index=True)
