"""The figure of a cohort: each gene alone, and the model out of fold beside the same in sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shest.draw import layout
from shest.draw.layout import Panel
from shest.draw.style import COLOURBLIND
from shest.score import cohort
from shest.score.cohort import InSample, OutOfFold, Response, Survival

OUTSIDE, INSIDE, GROUPS = COLOURBLIND[0], COLOURBLIND[4], {"high": COLOURBLIND[1], "low": COLOURBLIND[2]}
GENES = 20  # named in the figure
NAMES = {"c_index": "c-index", "auc": "AUC"}


def figure(
    outcome: Survival | Response, outside: OutOfFold, inside: InSample, table: pd.DataFrame, record: Mapping[str, Any]
) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Draw genes, and Kaplan-Meier curves of halves by risk (or ROC curves), out of fold and in sample.

    Parameters
    ----------
    table
        See :func:`shest.score.cohort.gene_table`.
    record
        Content of ``cohort.json``.
    """
    measure = NAMES[outcome.measure]
    told = {"out of fold": outside.standing, "in sample": inside.standing}
    of_model = {key: record[key.replace(" ", "_")] for key in told}

    def model_panel(letter: str, key: str) -> Panel:
        def draw(axes: np.ndarray) -> dict[str, pd.DataFrame]:
            title = f"{key.capitalize()}: {measure} {of_model[key][outcome.measure]:.2f}"
            if isinstance(outcome, Survival):
                return {letter: curves(axes[0, 0], outcome, told[key], title, of_model[key]["log_rank_p"])}
            return {letter: roc(axes[0, 0], outcome, told[key], title)}

        return Panel(letter, draw)

    by_chance = record["best_gene_by_chance"]
    first = Panel("a", lambda axes: {"a": genes(axes[0, 0], table, outcome.measure, by_chance)}, width=1.1)
    panels = [first, model_panel("b", "out of fold"), model_panel("c", "in sample")]
    notes = ["In sample: genes picked, model fitted and scored on the same patients, the published way."]
    of = "Survival" if isinstance(outcome, Survival) else "Response"
    title = f"{of} of {len(outcome):,} patients by the predicted expression of their slides"
    return layout.compose(title, [(75, panels)], notes=notes)


def genes(axis: Axes, table: pd.DataFrame, measure: str, by_chance: float) -> pd.DataFrame:
    """Draw the best genes out of fold, each beside what it would seem in sample, and how good the best is by chance."""
    shown = table.head(GENES)
    place = np.arange(len(shown))[::-1]
    axis.axvline(0.5, color="0.7", lw=0.6, zorder=0)
    axis.axvline(by_chance, color="0.4", lw=0.8, ls=":", zorder=0, label="best by chance, 95 %")
    inner, outer = shown[f"{measure}_in_sample"], shown[f"{measure}_out_of_fold"]
    axis.hlines(place, outer, inner, color="0.8", lw=0.8, zorder=1)
    axis.errorbar(
        outer, place, xerr=shown["deviation"], fmt="o", ms=3, lw=0.8, color=OUTSIDE, label="out of fold, ± SD"
    )
    axis.plot(inner, place, "o", ms=3, mfc="none", mec=INSIDE, label="in sample")
    axis.set_yticks(place, shown["gene"], fontsize=6)
    axis.set_xlabel(NAMES[measure])
    axis.set_title(
        f"Best {len(shown)} of {len(table):,} genes, each alone" if len(table) > GENES else "Genes, each alone"
    )
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=2, handletextpad=0.2)
    return shown


def curves(axis: Axes, outcome: Survival, standing: np.ndarray, title: str, p: float | None) -> pd.DataFrame:
    """Draw Kaplan-Meier curves of the patients above and below the median risk (lifelines)."""
    from lifelines import KaplanMeierFitter

    high, found = cohort.halves(standing), []
    for name, members in (("high", high), ("low", ~high)):
        if not members.any():
            continue
        fitted = KaplanMeierFitter().fit(outcome.time[members], outcome.event[members])
        line, limits = fitted.survival_function_.iloc[:, 0], fitted.confidence_interval_
        label = f"{name} risk, {members.sum():,} patients"
        axis.step(line.index, line, where="post", color=GROUPS[name], lw=1, label=label)
        axis.fill_between(limits.index, *limits.to_numpy().T, step="post", color=GROUPS[name], alpha=0.15, lw=0)
        gone = outcome.time[members & ~outcome.event]
        axis.plot(gone, fitted.predict(gone), "|", ms=3, mew=0.5, color=GROUPS[name])
        lower, upper = limits.to_numpy().T
        columns = {"time": line.index, "surviving": line.to_numpy(), "lower": lower, "upper": upper}
        found.append(pd.DataFrame({"risk": name} | columns))
    axis.set(xlabel="Time", ylabel="Surviving", ylim=(0, 1.02), xlim=(0, None))
    axis.set_title(title)
    said = "one group only" if p is None else "log-rank p < 0.0001" if p < 1e-4 else f"log-rank p = {p:.2g}"
    axis.text(0.97, 0.97, said, transform=axis.transAxes, ha="right", va="top", fontsize=6.5)
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), handlelength=1.2)
    return pd.concat(found, ignore_index=True)


def roc(axis: Axes, outcome: Response, standing: np.ndarray, title: str) -> pd.DataFrame:
    """Draw the ROC curve of the patients' mean standing."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(outcome.response, standing)
    axis.plot([0, 1], [0, 1], color="0.7", lw=0.6)
    axis.plot(false, true, color=OUTSIDE, lw=1)
    axis.set(
        xlabel="False positive rate",
        ylabel="True positive rate",
        xlim=(0, 1),
        ylim=(0, 1.02),
        aspect="equal",
        anchor="N",
    )
    axis.set_title(title)
    return pd.DataFrame({"false_positive_rate": false, "true_positive_rate": true})
