"""What the report says of a run's scores: its first screen, its tables, and what to doubt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from shest.io.registration import Registration
from shest.score.evaluation import Evaluation, Matched
from shest.score.score_list import SCORES
from shest.tissue.register import SHARE_EXPECTED

BASELINES = ("linear", "mean")
"""Kinds of systems that any other should beat."""
BETTER = 0.02  # share of the table's cells by which another way to label must be ahead to be named
TABLES_PRIOR = "prior table"  # a way to label that knows the composition of what it is judged by
LEFT_OUT = "too few training cells of {}; they are not predicted, and each of their cells counts as an error"
ANNOTATED_BY_EXPRESSION = (
    "{}: labels are those of expression alone, no pathologist's table was given; a score against them tells how well "
    "such a label is met, not whether it is right."
)
SIMULATED = (
    "The tissue of {} is simulated: what is learnt here is how the workflow works, and what goes wrong in it, not how "
    "well it does on tissue."
)
SAME_PATIENT = (
    "{} are of one patient: where one is held out, others of the same patient are trained on. Sections of one block "
    "leave nothing new, and such a score says nothing of other patients."
)
SELECTED = (
    "{sample} ({protocol}): refinement removed {removed:,} of {n:,} test cells of {system}, by label and embedding; on "
    "all of them its weighted F1 is {all:.3f}, not {score:.3f}. The published protocol scores chosen cells."
)
REFINEMENT = {
    True: "{0}: on the same folds, training on all cells is better than on what Algorithm 1 keeps (weighted F1 of "
    "linear {1:.3f} against {2:.3f}; as many removed at random: {3:.3f}).",
    False: "{0}: on the same folds, training on what Algorithm 1 keeps is better than on all cells (weighted F1 "
    "of linear {2:.3f} against {1:.3f}; as many removed at random: {3:.3f}).",
}


def opening(models: Iterable[Mapping[str, Any]], simulated: Sequence[str]) -> str:
    """Say first which samples are simulated, if any, then what was fitted on what (:func:`fitted`)."""
    return " ".join([SIMULATED.format(", ".join(simulated))] * bool(simulated) + [fitted(models)])


def fitted(models: Iterable[Mapping[str, Any]]) -> str:
    """Say what was fitted on what, in one sentence for all models that share it; ``models``: of ``model.json``."""
    sentences = []
    for m in models:
        cells = sum(m["cells"]["train"].values())
        learnt = [f"{len(m['classes'])} types"] * bool(m["classes"]) + [f"{len(m['genes']):,} genes"] * bool(m["genes"])
        name = f"{m['system']} on {m['encoder']}" if m["encoder"] else m["system"]
        facts = f"fitted on {cells:,} {m.get('unit', 'cells')} of {', '.join(m['samples'])}; {', '.join(learnt)}"
        sentences.append((name, m["protocol"], facts))
    return " ".join(_grouped(sentences))


def _grouped(sentences: Iterable[tuple[str, str, str]]) -> list[str]:
    """Say a fact once for all systems that share it; sentences: system, protocol, fact."""
    systems: dict[tuple[str, str], list[str]] = {}
    for system, protocol, fact in sentences:
        systems.setdefault((protocol, fact), []).append(system)
    return [f"{', '.join(names)} ({protocol}): {fact}." for (protocol, fact), names in systems.items()]


def headline(evaluations: Iterable[Evaluation], shown: str) -> list[dict[str, str]]:
    """Make the cards of the first screen, one an evaluation of the systems that are no baselines.

    The system that the figures show stands first, and strict scores before others; a note names the score of each
    system of kind linear.
    """
    every = list(evaluations)
    chosen = [e for e in every if e.system == shown or e.kind not in BASELINES]
    cards = []
    for e in sorted(chosen, key=lambda e: (e.system != shown, e.protocol != "strict")):
        score, read = ("weighted F1", weighted_f1) if e.types else ("median R", median_r)
        interval = e.interval("weighted" if e.types else "pearson_median")
        notes = [f"{'internal test' if e.role == 'train' else 'external'}, {e.n:,} {e.unit}"]
        blocks = f" ({e.intervals.get('n_blocks')} blocks)"
        notes[0] += f", 95 % {interval[0]:.2f}–{interval[1]:.2f}{blocks}" if interval else ""
        notes += [f"{len(e.folds)} folds ± {e.spread['weighted']:.3f}"] if e.folds else []
        notes += [f"unrefined {_text(e.unrefined[1].weighted)} on {e.unrefined[0]:,}"] if e.unrefined else []
        notes += [f"{b.system} {_text(read(b))}" for b in beside(e, every) if b.kind == "linear" and b is not e]
        name = f"{e.sample}: {score}, {e.protocol} ({e.system})"
        cards.append({"name": name, "value": _text(read(e)), "note": "; ".join(notes)})
    return cards


def weighted_f1(evaluation: Evaluation) -> float | None:
    """Weighted F1 of types; None where none are predicted."""
    return evaluation.types.weighted if evaluation.types else None


def median_r(evaluation: Evaluation) -> float | None:
    """Median Pearson R over genes; None where no expression is predicted."""
    return evaluation.pearson["median"] if evaluation.pearson else None


def beside(evaluation: Evaluation, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Return the baselines' evaluations of the same sample, protocol and unit."""
    same = evaluation.sample, evaluation.protocol, evaluation.unit
    return [e for e in evaluations if e.kind in BASELINES and (e.sample, e.protocol, e.unit) == same]


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def score_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row an evaluation; nothing where its system predicts nothing, no column where no evaluation has anything.

    Beside the weighted F1: its interval over spatial blocks, its standard deviation over folds, the one over all cells
    where refinement decided which are scored, and the one against the pathologist's table alone. R is of what a system
    predicts, counts or logarithms; beside it the ceiling, what the true expectations of simulated counts reach. R of
    logs is of all systems on one scale; R across genes is high for whoever knows each gene's mean.
    """
    rows = []
    for e in evaluations:
        interval = e.interval("weighted")
        rows.append(
            {
                "sample": e.sample,
                "role": e.role,
                "system": e.system,
                "protocol": e.protocol,
                e.unit: e.n,
                "F1 weighted": weighted_f1(e),
                "95 % interval": f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else None,
                "blocks": e.intervals.get("n_blocks"),
                "± over folds": e.spread.get("weighted"),
                "unrefined": e.unrefined[1].weighted if e.unrefined else None,
                "by table alone": e.table[1].weighted if e.table else None,
                "F1 macro": e.types.macro if e.types else None,
                "median R": median_r(e),
                "R within type": e.pearson.get("within_type") if e.pearson else None,
                "median R of logs": e.common["pearson"] if e.common else None,
                "within type, of logs": e.common["within_type"] if e.common else None,
                "R across genes": e.common["by_unit"] if e.common else None,
                "R ceiling": e.pearson.get("ceiling") if e.pearson else None,
                "ceiling within type": e.pearson.get("ceiling_within_type") if e.pearson else None,
                "genes R > 0.3": e.pearson["share_above_0.3"] if e.pearson else None,
                "Moran's I, correlation": e.moran["correlation"] if e.moran else None,
                "of drawn counts": e.moran.get("correlation_drawn") if e.moran else None,
                "calibration error": e.calibration["ece_after"] if e.calibration else None,
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def outline_table(scores: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a system and sample: its nuclei against those that were given; of ``*.outlines.json``."""
    rows = [
        {
            "sample": found["sample"],
            "system": found["system"],
            "given": found["reference"],
            "found": found["found"],
            **{f"{key} at 3 µm": found["detection"]["3"][key] for key in ("f1", "precision", "recall")},
            "Dice": found["dice"],
            "Jaccard": found["jaccard"],
            "AJI": found["aji"],
            "panoptic quality": found["iou_0.5"]["pq"],
            "F_d": found["types"]["hovernet"]["f_d"],
            **{f"F_c {name}": value for name, value in found["types"]["hovernet"]["f_c"].items()},
        }
        for found in scores
    ]
    return pd.DataFrame(rows).rename(columns={"f1 at 3 µm": "F1 at 3 µm"})


def property_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row an evaluation and property of genes: how far R goes with it, over genes; no row where R says nothing."""
    names = {
        "moran_actual": "Moran's I of what is measured",
        "mean_counts": "mean counts",
        "zeros": "share of zeros",
        "gc": "share of G and C",
        "length": "length of the transcript",
    }
    rows = [
        {
            "sample": e.sample,
            "system": e.system,
            "protocol": e.protocol,
            "R against": names[name],
            "rho": found["rho"],
            "partial rho": found["partial"],
            "held fixed": ", ".join(names[other] for other in found["held"]),
            "genes": found["n"],
        }
        for e in evaluations
        for name, found in (e.properties or {}).items()
        if found["rho"] is not None
    ]
    return pd.DataFrame(rows)


def ablation_table(ablations: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a sample and choice of training cells: the linear system on the same folds; of ``ablation.json``."""
    names = {"all": "all", "algorithm_1": "Algorithm 1", "random": "as many at random"}
    rows = [row for found in ablations for row in found["rows"]]
    columns = {
        "sample": "sample",
        "variant": "training cells",
        "train": "their number",
        "n": "scored cells",
        "weighted": "F1 weighted",
        "macro": "F1 macro",
    }
    table = pd.DataFrame(rows, columns=list(columns)).rename(columns=columns)
    return table.assign(**{"training cells": table["training cells"].map(names)})


def difference_table(comparisons: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a sample, system, score and protocol: its difference to a linear and to the best system."""
    rows = [
        {
            "protocol": protocol,
            "sample": _where(d),
            "score": SCORES[d["score"]].label,
            "system": d["system"],
            "against": f"{d['reference']} (best)" if d["best"] else d["reference"],
            "difference": d["difference"],
            "95 % interval": "–" if d["low"] is None else f"{d['low']:+.3f} to {d['high']:+.3f}",
            "p": d["p"],
            "p corrected": d["p_holm"],
            "blocks": d["n_blocks"],
        }
        for protocol, found in comparisons.items()
        for d in found["differences"]
    ]
    return pd.DataFrame(rows)


def _where(row: Mapping[str, Any]) -> str:
    """Name a sample, and that its spots, or only what all systems and programs share of it, are scored."""
    name = f"{row['sample']}, spots" if row["unit"] == "spots" else row["sample"]
    return f"{name}, shared" if row["ground"] == "shared" else name


def side_by_side_table(comparisons: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a system, sample and protocol: every score, its interval behind it; nothing where it has none."""
    rows = []
    for protocol, found in comparisons.items():
        for r in found["rows"]:
            row = {"protocol": protocol, "sample": _where(r), "system": r["system"], r["unit"]: r["n"]}
            row |= {"genes": r["n_genes"], "blocks": r["n_blocks"]}
            for name, score in SCORES.items():
                row[score.label] = _with_interval(r, name)
            row[SCORES["genes_above"].label] = _genes_above(r)
            row["such genes by chance"] = r["n_genes_above_by_chance"]
            row["IoU by chance"] = r["iou_chance"]
            rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def _with_interval(row: Mapping[str, Any], name: str) -> str | None:
    if row[name] is None:
        return None
    if row[f"{name}_low"] is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} ({row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f})"


def _genes_above(row: Mapping[str, Any]) -> str | None:
    """Say how many genes there are, and between how many and how many."""
    if row["n_genes_above"] is None or row["genes_above_low"] is None:
        return None if row["n_genes_above"] is None else f"{row['n_genes_above']:,}"
    low, high = (row["n_genes"] * row[f"genes_above_{side}"] for side in ("low", "high"))
    return f"{row['n_genes_above']:,} ({low:,.0f}–{high:,.0f})"


def cost_table(costs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a system and protocol: what it costs; ``costs``: ``comparison/{protocol}.costs.csv``."""
    names = {
        "system": "system",
        "parameters": "parameters",
        "bytes": "MB of weights",
        "fit_seconds": "seconds a fit",
        "fit_mb": "peak memory of a fit (MB)",
        "units_per_second": "units predicted a second",
        "predict_mb": "peak memory of prediction (MB)",
    }
    parts = [table.rename(columns=names)[list(names.values())].assign(protocol=p) for p, table in costs.items()]
    table = pd.concat(parts, ignore_index=True)
    table["MB of weights"] = table["MB of weights"] / 1e6
    return table[["protocol", *names.values()]]


def verdict_sentences(comparisons: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say of each sample and score which differences to the best system are real, and which may be chance."""
    sentences = []
    for protocol, found in comparisons.items():
        for v in found["verdicts"]:
            said = [f"{v['best']} is best ({v['value']:.3f})"]
            behind = [f"{b['system']} by {b['by']:.3f}" for b in v["behind"]]
            said += [f"behind it, beyond chance: {', '.join(behind)}"] if behind else []
            said += [f"not told apart from it: {', '.join(v['level'])}"] if v["level"] else []
            sentences.append(f"{_where(v)} ({protocol}), {SCORES[v['score']].label}: {'; '.join(said)}.")
        for apart in found["set_apart"]:
            sentences.append(f"{apart['sample']} ({protocol}): {apart['system']} is not compared: it {apart['why']}.")
    return sentences


def label_table(labels: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a sample: what its labels rest on, and how far their sources agree; of ``annotation.json``."""
    rows = [
        {
            "sample": sample,
            "method": found["method"],
            "prior": found["prior"],
            "TACCO and mixture agree": (found["agreement"]["methods"] or {}).get("share"),
            "labels and table agree": (found["agreement"]["table"] or {}).get("share"),
            **{f"labelled by {word}": number for word, number in found["labelled"].items()},
        }
        for sample, found in labels.items()
    ]
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def cluster_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """One row a cluster that marker genes name: what it is, its votes, its genes, and why; of ``annotation.json``."""

    def numbers(values: Mapping[str, float]) -> str:
        ranked = sorted(values.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {value:.1f}" for name, value in ranked)

    rows = []
    for item in found["clusters"]:
        cancer = item["cancer"] or {}
        rows.append(
            {
                "cluster": item["cluster"],
                "cells": item["cells"],
                "category": item["category"],
                "votes": numbers(item["votes"]),
                "decided by": item["by"],
                "cancer genes": cancer.get("share"),
                "by chance as many pass": cancer.get("chance"),
                "p of so many": cancer.get("p"),
                "genes": ", ".join(item["genes"]),
            }
        )
    table = pd.DataFrame(rows).astype({"cluster": str})
    return table.sort_values("cells", ascending=False, kind="stable").dropna(axis=1, how="all")


def label_comparison_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a sample, way to label and variant; ``tables``: ``label_comparison.csv`` by sample."""
    names = {
        "way": "way",
        "variant": "variant",
        "used": "used here",
        "typed": "cells with a type",
        "as_labels": "as the labels",
        "table_cells": "cells in the table",
        "accuracy": "as the table",
        "f1_macro": "F1 macro",
        "f1_weighted": "F1 weighted",
        "accuracy_typed": "as the table, of those with a type",
    }
    parts = [table.assign(sample=sample) for sample, table in tables.items()]
    joined = pd.concat(parts, ignore_index=True)
    chosen = joined[["sample", *(name for name in names if name in joined)]].rename(columns=names)
    return chosen.assign(**{"used here": chosen["used here"].map({True: "yes", False: ""})}).fillna({"variant": ""})


def label_doubts(sample: str, table: pd.DataFrame) -> list[str]:
    """Say where labels agree less with the pathologist than another way that was tried; of ``label_comparison.csv``."""
    if "accuracy" not in table or table["accuracy"].isna().all():
        return []
    own = table[table["used"]].iloc[0]
    fair = table[table["variant"].fillna("") != TABLES_PRIOR]
    best = fair.loc[fair["accuracy"].idxmax()]
    if not best["accuracy"] > own["accuracy"] + BETTER:
        return []

    def said(row: pd.Series) -> str:
        return row["way"] if pd.isna(row["variant"]) or not row["variant"] else f"{row['way']} ({row['variant']})"

    return [
        f"{sample}: its labels agree with the table on {own['accuracy']:.0%} of {int(own['table_cells']):,} cells, by "
        f"{said(own)}; {said(best)} agrees on {best['accuracy']:.0%}."
    ]


def mean_f_c(matched: Matched) -> float | None:
    """Return the mean F_c of the types that a program can name."""
    found = [v for name, v in matched.detection["f_c"].items() if name in matched.nameable and v is not None]
    return sum(found) / len(found) if found else None


def comparator_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row a comparator and evaluation: its scores on the cells that it found, and the system's on the same."""
    return pd.DataFrame(
        {
            "sample": e.sample,
            "protocol": e.protocol,
            "program": name,
            "scored cells found": matched.n_matched,
            "share": matched.share_matched,
            "F1 weighted": matched.scores.weighted,
            "F1 macro": matched.scores.macro,
            "F1 macro of the types it can name": matched.macro_nameable()[0],
            "F_d": matched.detection and matched.detection["f_d"],
            "F_c, mean": matched.detection and mean_f_c(matched),
            "system": e.system,
            "its F1 weighted": matched.system.weighted,
            "its F1 macro": matched.system.macro,
            "its F1 macro of these types": matched.macro_nameable()[1],
        }
        for e in evaluations
        for name, matched in e.comparators.items()
        if matched.scores and e.kind not in BASELINES
    )


def doubts(
    evaluations: Sequence[Evaluation],
    registrations: Mapping[str, Registration],
    tables_given: Mapping[str, bool],
    models: Iterable[Mapping[str, Any]],
    labels: Mapping[str, Mapping[str, Any]] | None = None,
    ablations: Iterable[Mapping[str, Any]] = (),
    label_comparisons: Mapping[str, pd.DataFrame] | None = None,
    further: Sequence[str] = (),
) -> list[str]:
    """List what a careful reader should doubt in these results, in plain sentences.

    Parameters
    ----------
    evaluations
        Of all systems.
    registrations, tables_given
        By sample; whether a pathologist's table was given, of the samples with labels.
    models
        Contents of ``model.json``.
    labels
        Contents of ``annotation.json`` by sample.
    ablations
        Contents of ``ablation.json``.
    label_comparisons
        ``label_comparison.csv`` by sample, of those that have one.
    further
        What else there is to doubt, said first.
    """
    left_out = [(m["system"], m["protocol"], ", ".join(m["classes_left_out"])) for m in models if m["classes_left_out"]]
    sentences = [*further]
    sentences += _grouped((system, protocol, LEFT_OUT.format(types)) for system, protocol, types in left_out)
    for e in evaluations:
        sentences += _not_better(e, evaluations)
        unseen = [t for t, f1 in e.types.per_class.items() if f1 is None] if e.types else []
        if unseen:
            sentences.append(
                f"{e.sample} ({e.protocol}): no scored cell of {', '.join(unseen)}; nothing is said of them."
            )
    for sample, registration in registrations.items():
        share = registration.share_on_tissue
        if share is not None and share < SHARE_EXPECTED:
            sentences.append(f"{sample}: only {share:.0%} of the nuclei lie on tissue; check the registration.")
        if registration.matched and registration.matched["doubt"]:
            sentences.append(f"{sample}: its registration was insisted on, and {registration.matched['doubt']}.")
        elif registration.matched and registration.matched["torn"]:
            torn, blocks = registration.matched["torn"], len(registration.matched["blocks"])
            sentences.append(
                f"{sample}: in {torn} of {blocks} blocks the H&E does not show the nuclei where the registration puts "
                "them; look at its picture."
            )
    without_table = [sample for sample, given in tables_given.items() if not given]
    sentences += [ANNOTATED_BY_EXPRESSION.format(", ".join(without_table))] * bool(without_table)
    sentences += [f"{sample}: {doubt}" for sample, found in (labels or {}).items() for doubt in found["doubts"]]
    for sample, table in (label_comparisons or {}).items():
        sentences += label_doubts(sample, table)
    sentences += [_selected(e) for e in evaluations if e.unrefined and e.types and e.kind not in BASELINES]
    sentences += [sentence for found in ablations for sentence in _refinement(found)]
    return list(dict.fromkeys(sentences)) or ["Nothing stands out. That is no proof."]


def patient_doubts(patients: Mapping[str, str | None], by: str) -> list[str]:
    """Say where samples of one patient are trained on and held out in turn.

    ``patients``: of the training samples; ``by``: what is held out whole.
    """
    shared: dict[str, list[str]] = {}
    for sample, patient in patients.items():
        if patient:
            shared.setdefault(patient, []).append(sample)
    return [SAME_PATIENT.format(", ".join(names)) for names in shared.values() if by == "sample" and len(names) > 1]


def _selected(evaluation: Evaluation) -> str:
    """Say what the choice of scored cells does to a score."""
    n, scores = evaluation.unrefined
    return SELECTED.format(
        sample=evaluation.sample,
        protocol=evaluation.protocol,
        system=evaluation.system,
        removed=n - evaluation.n,
        n=n,
        all=scores.weighted,
        score=evaluation.types.weighted,
    )


def _refinement(ablation: Mapping[str, Any]) -> list[str]:
    """Say of each sample which choice of training cells wins."""
    scores = pd.DataFrame(ablation["rows"]).pivot(index="sample", columns="variant", values="weighted")
    return [
        REFINEMENT[bool(row["all"] >= row["algorithm_1"])].format(sample, row["all"], row["algorithm_1"], row["random"])
        for sample, row in scores.iterrows()
    ]


def _not_better(evaluation: Evaluation, evaluations: Iterable[Evaluation]) -> list[str]:
    """Name the baselines that a system does not beat, at types and at expression."""
    if evaluation.kind in BASELINES:
        return []
    sentences, baselines = [], beside(evaluation, evaluations)
    for task, score, read in (("types", "weighted F1", weighted_f1), ("expression", "median R", median_r)):
        own = read(evaluation)
        better = {
            b.system: value for b in baselines if (value := read(b)) is not None and own is not None and own <= value
        }
        if better:
            values = ", ".join(map(_text, better.values()))
            sentences.append(
                f"{evaluation.sample} ({evaluation.protocol}): {evaluation.system} does not beat {', '.join(better)} "
                f"at {task} ({score} {_text(own)} against {values})."
            )
    return sentences
