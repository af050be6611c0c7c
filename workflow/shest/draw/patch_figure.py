"""What is drawn of systems on patches: the single patch's five figures in one, from the scores of a whole run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shest.draw import layout, panels
from shest.draw.layout import Panel
from shest.draw.style import COLOURBLIND
from shest.score.evaluation import Evaluation

KIND = "single_patch"
DONORS = ("same section", "same donor", "other donor")
"""What a sample shares with what its model was trained on: other blocks of it, other sections of its donor, nothing."""
FACTORS = {"moran_actual": ("E", "Moran's I, measured"), "mean_counts": ("F", "mean counts (log)")}
Records = Mapping[str, Mapping[str, Any]]


def set_rows(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a gene set and system: mean R over its genes, mean over samples; low and high: of the samples."""
    rows = [
        (name, e.system, found["pearson"])
        for e in evaluations
        for name, found in e.gene_sets.items()
        if found["pearson"] is not None
    ]
    return _over_samples(rows)


def augmentation_rows(evaluations: Sequence[Evaluation], records: Records) -> pd.DataFrame:
    """As :func:`set_rows`, of systems that differ in their augmentation alone, each named by it; else no rows.

    ``records``: ``model.json`` by system.
    """
    alike: dict[str, list[str]] = {}
    for name, record in records.items():
        if record["kind"] == KIND:
            rest = {k: v for k, v in record["settings"].items() if k != "augment"}
            alike.setdefault(str(sorted(rest.items())), []).append(name)
    several = max(alike.values(), key=len, default=[])
    rows = [
        (name, records[e.system]["settings"]["augment"], found["pearson"])
        for e in evaluations
        if e.system in several
        for name, found in e.gene_sets.items()
        if found["pearson"] is not None
    ]
    return _over_samples(rows if len({augment for _, augment, _ in rows}) > 1 else [])


def _over_samples(rows: Sequence[tuple[str, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["score", "by", "value"])
    found = table.groupby(["score", "by"], sort=False)["value"].agg(["mean", "min", "max"]).reset_index()
    return found.set_axis(["score", "by", "value", "low", "high"], axis=1)


def size_rows(evaluations: Sequence[Evaluation], records: Records) -> pd.DataFrame:
    """One row a system and sample: parameters of the network, genes with R of at least 0.30, and those by chance."""
    rows = [
        {
            "system": e.system,
            "sample": e.sample,
            "parameters": sum(sizes[part] for part in ("backbone", "head", "encoder") if part in sizes),
            "genes": e.pearson["n_above_0.3"],
            "by_chance": (e.pearson.get("null") or {}).get("mean"),
        }
        for e in evaluations
        if e.pearson and (sizes := records.get(e.system, {}).get("parameters"))
    ]
    return pd.DataFrame(rows, columns=["system", "sample", "parameters", "genes", "by_chance"])


def donor(sample: str, trained_on: Sequence[str], patients: Mapping[str, str | None], by: str) -> str:
    """Say which of :data:`DONORS` holds for a scored sample.

    Parameters
    ----------
    trained_on
        Samples that the system's models were trained on; of one of them, what is scored was held out.
    patients
        By sample; None: its own.
    by
        What was held out: block, sample or patient.
    """
    if sample in trained_on and by == "block":
        return DONORS[0]
    others = [name for name in trained_on if name != sample]
    own = patients.get(sample) or sample
    same = by != "patient" and any((patients.get(name) or name) == own for name in others)
    return DONORS[1] if same else DONORS[2]


def donor_rows(
    evaluations: Sequence[Evaluation], records: Records, patients: Mapping[str, str | None], by: str
) -> pd.DataFrame:
    """One row a sample and system of this kind: median R of logs over genes, and what its donor is to the model."""
    rows = [
        (donor(e.sample, records[e.system]["samples"], patients, by), e.sample, e.system, e.common["pearson"])
        for e in evaluations
        if e.common and e.kind == KIND and e.system in records
    ]
    return pd.DataFrame(rows, columns=["donor", "sample", "system", "value"])


def _bars(axis: Axes, rows: pd.DataFrame, title: str) -> pd.DataFrame:
    table = panels.bars(axis, rows, title)
    low = min(0.0, float(rows["low"].min()))
    axis.set(ylim=(low, max(0.3, 1.15 * float(rows["high"].max()))), ylabel="R, mean over genes")
    axis.axhline(0, color="0.6", lw=0.6, zorder=0)
    return table


def _sizes(axis: Axes, rows: pd.DataFrame) -> pd.DataFrame:
    names = list(dict.fromkeys(rows["system"]))
    for k, name in enumerate(names):
        own = rows[rows["system"] == name]
        axis.plot(own["parameters"], own["genes"], "o", ms=4, color=COLOURBLIND[k % len(COLOURBLIND)], label=name)
        axis.plot(own["parameters"], own["by_chance"], "_", ms=7, color=COLOURBLIND[k % len(COLOURBLIND)])
    axis.set(xscale="log", xlabel="parameters", ylabel="genes with R ≥ 0.30", title="Size; dashes: genes by chance")
    axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return rows


def _donors(axis: Axes, rows: pd.DataFrame) -> pd.DataFrame:
    there = [name for name in DONORS if (rows["donor"] == name).any()]
    for k, name in enumerate(dict.fromkeys(rows["system"])):
        own = rows[rows["system"] == name]
        at = [there.index(which) + 0.08 * (k - 1) for which in own["donor"]]
        axis.plot(at, own["value"], "o", ms=4, color=COLOURBLIND[k % len(COLOURBLIND)], label=name)
    axis.axhline(0, color="0.6", lw=0.6, zorder=0)
    axis.set_xticks(range(len(there)), there)
    axis.set(xlim=(-0.5, len(there) - 0.5), ylabel="median R of logs", title="Donor of the scored sample")
    axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return rows


def _factor(axis: Axes, genes: pd.DataFrame, evaluation: Evaluation, column: str) -> pd.DataFrame:
    """Draw R of each gene against a property, with the rank correlation, raw and partial."""
    rows = genes[["gene", column, "pearson"]].dropna()
    axis.scatter(rows[column], rows["pearson"], s=4, lw=0, alpha=0.4, color=COLOURBLIND[0], rasterized=True)
    found = (evaluation.properties or {}).get(column, {})
    said = [f"{key} {found[key]:.2f}" for key in ("rho", "partial") if found.get(key) is not None]
    if column == "mean_counts":
        axis.set_xscale("log")
    title = f"{evaluation.sample}: {', '.join(said) or 'no rho'} (n = {found.get('n', len(rows)):,} genes)"
    axis.set(xlabel=FACTORS[column][1], ylabel="R", title=title)
    return rows


def compose(
    evaluations: Sequence[Evaluation],
    records: Records,
    genes: Mapping[str, pd.DataFrame],
    patients: Mapping[str, str | None],
    by: str,
    shown: str,
) -> tuple[Figure, dict[str, pd.DataFrame]]:
    """Lay the figure out; a panel that the run has nothing for is left out, and why is said.

    Parameters
    ----------
    evaluations
        Of every system on the same unit, in one protocol.
    records
        ``model.json`` by system.
    genes
        Table of genes of the shown system by sample.
    patients, by
        As of :func:`donor`.
    shown
        The system whose genes are shown.
    """
    own = [e for e in evaluations if e.system == shown]
    sets, augmented = set_rows(evaluations), augmentation_rows(evaluations, records)
    sizes, donors = size_rows(evaluations, records), donor_rows(evaluations, records, patients, by)
    first = own[0]
    why = {
        "A": "no gene set was scored" if sets.empty else "",
        "B": "no two systems differ in their augmentation alone" if augmented.empty else "",
        "C": "no network has a gene scored" if sizes.empty else "",
        "D": f"every sample is of the {donors['donor'].iloc[0]}" if donors["donor"].nunique() == 1 else "",
    }
    why["D"] = "no expression was scored" if donors.empty else why["D"]
    found = genes[first.sample]
    for column, (letter, _) in FACTORS.items():
        there = column in found and found[column].notna().any() and np.ptp(found["pearson"]) > 0
        why[letter] = "" if there else "no gene's R varies"
    means = "Mean R of sets of genes chosen on training units; whiskers: samples"
    rows = [
        (48, [Panel("A", lambda axes: {"A": _bars(axes[0, 0], sets, means)}, why["A"])]),
        (48, [Panel("B", lambda axes: {"B": _bars(axes[0, 0], augmented, "By augmentation")}, why["B"])]),
        (
            48,
            [
                Panel("C", lambda axes: {"C": _sizes(axes[0, 0], sizes)}, why["C"]),
                Panel("D", lambda axes: {"D": _donors(axes[0, 0], donors)}, why["D"]),
            ],
        ),
        (
            56,
            [
                Panel(letter, lambda axes, c=column, n=letter: {n: _factor(axes[0, 0], found, first, c)}, why[letter])
                for column, (letter, _) in FACTORS.items()
            ],
        ),
    ]
    return layout.compose(f"Systems on single patches; genes of {shown}", rows)
