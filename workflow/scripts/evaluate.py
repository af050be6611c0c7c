"""Scores a sample's predictions against its labels and counts, beside the baselines."""

import anndata as ad
import numpy as np
import pandas as pd

from shest import baselines, cache, console, evaluate, files, metrics, uncertainty
from shest.errors import InputError
from shest.expression import read_counts
from shest.model import load_model, type_logits
from shest.provenance import versions


def scored_rows(table, role, refined):
    """Return the rows that are scored, and in words which they are."""
    labelled = table["cell_type"].notna().to_numpy()
    if role != "train":
        return labelled, "all labelled cells of a sample that nothing was fitted on"
    test = labelled & (table["part"] == "test").to_numpy()
    if refined is None:
        return test, "held-out spatial blocks, a window apart from every training cell"
    return test & refined.reindex(table.index).fillna(False).to_numpy(bool), "random test part, refined (as published)"


def blocks_of(table, split, xy, block_um):
    """Number the spatial blocks that the bootstrap draws from."""
    if split is not None and split.nunique() > 1:
        return pd.factorize(split.reindex(table.index))[0]
    return metrics.grid_blocks(xy, block_um)


def expression_scores(scored, readers, weights):
    """Score the reconstruction and the expression baselines; genes come from the reconstruction."""
    genes, summary = evaluate.score_expression(scored, readers["reconstruction"], weights)
    beside = {}
    for name in ("ridge", "class_mean"):
        table, beside[name] = evaluate.score_expression(scored, readers[name], None)
        genes[f"pearson_{name}"] = table["pearson"]
    spatial, moran = evaluate.score_moran(scored, readers["reconstruction"])
    return genes.merge(spatial, on="gene"), summary, beside, moran


def gene_overlap(measured, model):
    """Say which genes can be scored."""
    both = [g for g in model.genes if g in set(measured)]
    return both, {
        "scored": len(both),
        "unmeasured": [g for g in model.genes if g not in set(measured)],
        "not_in_model": [g for g in measured if g not in set(model.genes)],
    }


def calibration(model, x, label, called_probability):
    """Expected calibration error before and after temperature scaling, reliability and coverage."""
    raw = uncertainty.ensemble(type_logits(model, x), 1.0)
    known = label >= 0
    if not known.any():
        return None
    entropy = uncertainty.entropy(called_probability[known])
    return {
        "temperature": model.temperature,
        "ece_before": uncertainty.calibration_error(raw[known], label[known]),
        "ece_after": uncertainty.calibration_error(called_probability[known], label[known]),
        "reliability": uncertainty.reliability(called_probability[known], label[known]),
        "coverage": uncertainty.risk_coverage(entropy, label[known], called_probability[known].argmax(axis=1)),
    }


def reasons(input):
    """Count the bundle's cells by why they are kept or labelled, or not."""
    return {
        name: pd.read_parquet(path, columns=["reason"])["reason"].value_counts().sort_index().to_dict()
        for name, path in (("cells", input.cells), ("annotation", input.annotation))
    }


def main(input, output, params, wildcards):
    model, base = load_model(input.model, input.record), baselines.load(input.baselines)
    predicted = ad.read_h5ad(input.predictions, backed="r")
    labels = pd.read_parquet(input.annotation).set_index("cell_id")["cell_type"]
    table = pd.DataFrame({"called": predicted.obs["cell_type"].astype(str), "part": predicted.obs["part"].astype(str)})
    table["cell_type"] = labels.reindex(table.index)
    split = pd.read_parquet(input.split[0]) if input.split else None
    split = None if split is None else split[split["sample"] == wildcards.sample].set_index("cell_id")["block"]
    refined = pd.read_parquet(input.refinement[0]).set_index("cell_id")["kept"] if input.refinement else None
    chosen, scored_on = scored_rows(table, params.role, refined)
    if not chosen.any():
        raise InputError(wildcards.sample, "no cell to score: none of the kept cells of this part has a label",
                         "Give the sample a larger split, a table of labels, or the role predict")  # fmt: skip
    rows = np.flatnonzero(chosen)
    kept = table[chosen]
    actual, called = kept["cell_type"].to_numpy(str), kept["called"].to_numpy(str)
    types = [t for t in params.types if t in set(table["cell_type"].dropna()) | set(model.classes)]
    xy = predicted.obsm["spatial"][rows]
    block = blocks_of(kept, split, xy, params.block_um)
    weights = metrics.resample_blocks(int(block.max()) + 1, params.draws, params.seed) if block.max() > 0 else None

    counts, measured, cell_ids = read_counts(params.store)
    genes, overlap = gene_overlap(measured, model)
    at = pd.Index(cell_ids).get_indexer(kept.index)
    columns = pd.Index(measured).get_indexer(genes)
    scored = evaluate.Scored(actual, xy, block, counts[at][:, columns].tocsc(), genes)
    in_model = pd.Index(model.genes).get_indexer(genes)
    x = cache.Embeddings([input.embeddings], [(wildcards.sample, c) for c in kept.index]).take(np.arange(len(kept)))
    standard, types_called = base.standardise(x), base.types(x).argmax(axis=1)

    def ridge(part):
        pick = in_model[part]
        logs = standard @ base.ridge_weight[:, pick] + base.ridge_bias[pick]
        return np.expm1(np.clip(logs, 0, baselines.MAX_LOG))

    readers = {
        "reconstruction": lambda part: predicted.X[:, in_model[part].min() : in_model[part].max() + 1][rows][
            :, in_model[part] - in_model[part].min()
        ],
        "ridge": ridge,
        "class_mean": lambda part: base.class_mean[types_called][:, in_model[part]],
    }
    per_gene, expression, beside, moran = expression_scores(scored, readers, weights)
    scores = evaluate.score_types(actual, called, types)
    logistic = evaluate.score_types(actual, np.array(model.classes)[types_called], types)
    codes = pd.Categorical(actual, model.classes).codes.astype(int)
    intervals = evaluate.type_intervals(actual, called, types, block, weights) if weights is not None else {}
    result = {
        "sample": wildcards.sample,
        "encoder": wildcards.encoder,
        "protocol": wildcards.protocol,
        "role": params.role,
        "scored_on": scored_on,
        "n_cells": len(rows),
        **scores,
        "pearson": expression["pearson"] | {"csv": f"{wildcards.sample}.genes.csv"},
        "spearman": expression["spearman"] | {"csv": f"{wildcards.sample}.genes.csv"},
        "genes": overlap | {"constant": int((per_gene["pearson"] == 0).sum())},
        "moran": moran,
        "distances": evaluate.score_distances(xy, actual, called, types),
        "calibration": calibration(model, x, codes, predicted.obsm["probabilities"][rows]),
        "intervals": intervals
        | {"pearson_median": expression.get("interval"), "blocks": int(block.max()) + 1, "draws": params.draws},
        "baselines": {"logistic": logistic} | beside,
        "comparators": {},
        "reasons": reasons(input),
        "model_sha256": files.sha256(input.model),
        "versions": versions(),
    }
    if refined is not None:
        every = table[(table["part"] == "test") & table["cell_type"].notna()]
        result["unrefined"] = {"n_cells": len(every)} | evaluate.score_types(
            every["cell_type"].to_numpy(str), every["called"].to_numpy(str), types
        )
    with files.replacing(output.genes) as aside:
        per_gene.to_csv(aside, index=False, float_format="%.6g")
    files.write_json(output.scores, result)
    console.log.info(
        f"{wildcards.protocol}, {len(rows):,} cells: weighted F1 {scores['f1']['weighted']:.3f}"
        f" (logistic {logistic['f1']['weighted']:.3f}), macro {scores['f1']['macro']:.3f},"
        f" median R {expression['pearson']['median']:.3f} (ridge {beside['ridge']['pearson']['median']:.3f})"
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
