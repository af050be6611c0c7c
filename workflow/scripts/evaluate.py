"""Scores a sample's predictions against its labels and counts, beside the baselines."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.encode import cache
from shest.io.counts import read_counts
from shest.score import comparators, evaluate, markers, metrics
from shest.systems import uncertainty
from shest.systems.linear import baselines
from shest.systems.shest.model import load_model, type_logits


def read_calls(input):
    """Return called type, part of the split and label of every predicted cell, by cell_id."""
    predicted = ad.read_h5ad(input.predictions, backed="r")
    labels = pd.read_parquet(input.annotation).set_index("cell_id")["cell_type"]
    table = pd.DataFrame({"called": predicted.obs["cell_type"].astype(str), "part": predicted.obs["part"].astype(str)})
    return predicted, table.assign(cell_type=labels.reindex(table.index))


def blocks_of(cells, input, sample, xy, block_um):
    """Number the spatial blocks that the bootstrap draws from: the split's, else squares."""
    if input.split:
        split = pd.read_parquet(input.split[0])
        block = split[split["sample"] == sample].set_index("cell_id")["block"]
        if block.nunique() > 1:
            return pd.factorize(block.reindex(cells))[0]
    return metrics.grid_blocks(xy, block_um)


def reasons(input):
    """Count the bundle's cells by why they are kept or labelled, or not."""
    return {
        name: pd.read_parquet(path, columns=["reason"])["reason"].value_counts().sort_index().to_dict()
        for name, path in (("cells", input.cells), ("annotation", input.annotation))
    }


def main(input, output, params, wildcards, threads):
    model, base = load_model(input.model, input.record), baselines.load(input.baselines)
    predicted, table = read_calls(input)
    refined = pd.read_parquet(input.refinement[0]).set_index("cell_id")["kept"] if input.refinement else None
    chosen, scored_on = evaluate.scored_rows(table, params.role, refined)
    if not chosen.any():
        raise InputError(
            wildcards.sample,
            "no cell to score: none of the kept cells of this part has a label",
            "Give the sample a larger split, a table of labels, or the role predict",
        )
    rows, kept = np.flatnonzero(chosen), table[chosen]
    actual, called = kept["cell_type"].to_numpy(str), kept["called"].to_numpy(str)
    types = [t for t in params.types if t in set(table["cell_type"].dropna()) | set(model.classes)]
    xy, probability = predicted.obsm["spatial"][rows], predicted.obsm["probabilities"][rows]
    block = blocks_of(kept.index, input, wildcards.sample, xy, params.block_um)
    blocks = int(block.max()) + 1
    weights = metrics.resample_blocks(blocks, params.draws, params.seed) if blocks > 1 else None

    counts, measured, cell_ids = read_counts(input.store)
    genes, overlap = evaluate.gene_overlap(measured, model.genes)
    if not genes:
        raise InputError(
            wildcards.sample,
            "its panel has no gene that the model was trained on",
            "Check that both name genes alike, or give the sample the role predict",
        )
    at, columns = pd.Index(cell_ids).get_indexer(kept.index), pd.Index(measured).get_indexer(genes)
    scored = evaluate.Scored(actual, xy, block, counts[at][:, columns].tocsc(), genes)
    del counts
    in_model = pd.Index(model.genes).get_indexer(genes)
    x = cache.Embeddings([input.embeddings], [(wildcards.sample, c) for c in kept.index]).take(np.arange(len(kept)))
    logistic_called = base.types(x).argmax(axis=1)
    reconstruction = evaluate.columns_of(predicted.X, rows, in_model)
    beside = {
        "ridge": evaluate.ridge_reader(base, x, in_model),
        "class_mean": lambda part: base.class_mean[:, in_model[part]][logistic_called],
    }
    correlations, summary = evaluate.score_expression(scored, reconstruction, weights, beside, threads)
    space, moran = evaluate.score_moran(scored, reconstruction)
    per_gene = correlations.merge(space, on="gene")
    scores = evaluate.score_types(actual, called, types)
    logistic = evaluate.score_types(actual, np.array(model.classes)[logistic_called], types)
    raw, label = uncertainty.ensemble(type_logits(model, x), 1.0), pd.Categorical(actual, model.classes).codes
    intervals = evaluate.type_intervals(actual, called, types, block, weights) if weights is not None else {}
    place = files.read_json(input.registration)
    mpp = place["mpp_x"], place["mpp_y"]
    result = {
        "sample": wildcards.sample,
        "encoder": wildcards.encoder,
        "protocol": wildcards.protocol,
        "role": params.role,
        "scored_on": scored_on,
        "n_cells": len(rows),
        **scores,
        "pearson": summary["pearson"] | {"csv": f"{wildcards.sample}.genes.csv"},
        "spearman": summary["spearman"] | {"csv": f"{wildcards.sample}.genes.csv"},
        "genes": overlap | {"constant": int((per_gene["pearson"] == 0).sum())},
        "moran": moran,
        "distances": evaluate.score_distances(xy, actual, called, types),
        "calibration": evaluate.calibration(raw, probability, label.astype(int), model.temperature),
        "intervals": intervals | {"pearson_median": summary.get("interval"), "blocks": blocks, "draws": params.draws},
        "baselines": {"logistic": logistic} | summary["baselines"],
        "comparators": comparators.score(
            params.comparators, predicted.obsm["pixel"], mpp, rows, actual, called, list(params.types)
        ),
        "reasons": reasons(input),
        "model_sha256": files.sha256(input.model),
        "versions": versions(),
    }
    if refined is not None:
        every = table[(table["part"] == "test") & table["cell_type"].notna()]
        result["unrefined"] = {"n_cells": len(every)} | evaluate.score_types(
            every["cell_type"].to_numpy(str), every["called"].to_numpy(str), types
        )
    with files.atomic_write(output.genes) as tmp_path:
        per_gene.to_csv(tmp_path, index=False, float_format="%.6g")
    with files.atomic_write(output.markers) as tmp_path:
        markers.scores(scored.counts, actual, genes).to_csv(tmp_path, index=False, float_format="%.6g")
    with files.atomic_write(output.scored) as tmp_path:
        px = predicted.obsm["pixel"][rows]
        cells = pd.DataFrame({"actual": actual, "called": called, "block": block, "x": px[:, 0], "y": px[:, 1]})
        cells.insert(0, "cell_id", kept.index)
        cells.to_parquet(tmp_path, index=False)
    files.write_json(output.scores, result)
    console.log.info(
        f"{wildcards.protocol}, {len(rows):,} cells: weighted F1 {scores['f1']['weighted']:.3f}"
        f" (logistic {logistic['f1']['weighted']:.3f}), macro {scores['f1']['macro']:.3f}, median R"
        f" {summary['pearson']['median']:.3f} (ridge {summary['baselines']['ridge']['pearson']['median']:.3f})"
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
