"""Scores a system's predictions of a sample against its labels and counts."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.io.counts import read_counts
from shest.io.registration import Registration
from shest.labels.training_set import rows_of
from shest.score import comparators, evaluate, markers, metrics
from shest.score.evaluation import Evaluation


def read_table(input):
    """Return the opened predictions, and of every unit: predicted type, part of the split, label; by its id."""
    predicted = ad.read_h5ad(input.predictions, backed="r")
    labels = pd.read_parquet(input.annotation).set_index("cell_id")["cell_type"]
    table = pd.DataFrame({name: predicted.obs[column] for name, column in (("predicted", "cell_type"), ("part",) * 2)})
    return predicted, table.astype(str).assign(label=labels.reindex(table.index))


def blocks_of(ids, input, sample, xy, block_um):
    """Number the spatial blocks that the bootstrap draws from: the split's, else squares."""
    if input.split:
        split = pd.read_parquet(input.split[0])
        block = split[split["sample"] == sample].set_index("cell_id")["block"]
        if block.nunique() > 1:
            return pd.factorize(block.reindex(ids))[0]
    return metrics.grid_blocks(xy, block_um)


def reasons(input):
    """Count the sample's units by why they are kept or labelled, or not."""
    return {
        name: pd.read_parquet(path, columns=["reason"])["reason"].value_counts().sort_index().to_dict()
        for name, path in (("cells", input.cells), ("annotation", input.annotation))
    }


def read_scored(input, sample, label, xy, block, ids, genes_of_model):
    """Return the scored units with their counts of the genes that the model knows, and what became of the others."""
    counts, measured, cell_ids = read_counts(input.store)
    genes, overlap = evaluate.gene_overlap(measured, genes_of_model)
    if genes_of_model and not genes:
        raise InputError(
            sample,
            "its panel has no gene that the model was trained on",
            "Check that both name genes alike, or give the sample the role predict",
        )
    rows, columns = rows_of(ids, cell_ids, input.store), rows_of(genes, measured, input.store)
    return evaluate.Scored(label, xy, block, counts[rows][:, columns].tocsc(), genes), overlap


def add_types(result, scored, predicted, rows, called, types, weights, model):
    """Score types: F1, distances between them, calibration, intervals."""
    result.types = evaluate.score_types(scored.cell_type, called, types)
    result.distances = evaluate.score_distances(scored.xy, scored.cell_type, called, types)
    label = pd.Categorical(scored.cell_type, model["classes"]).codes.astype(int)
    probability, before = predicted.obsm["probabilities"][rows], predicted.obs["uncalibrated"].to_numpy()[rows]
    result.calibration = evaluate.calibration(before, probability, label, model["temperature"])
    if weights is not None:
        result.intervals |= evaluate.type_intervals(scored.cell_type, called, types, scored.block, weights)


def add_expression(result, scored, predicted, rows, weights, overlap, name, threads):
    """Score expression; return the table of genes."""
    columns = rows_of(scored.genes, predicted.var_names, "predictions")
    reconstruction = evaluate.columns_of(predicted.X, rows, columns)
    correlations, summary = evaluate.score_expression(scored, reconstruction, weights, threads)
    space, result.moran = evaluate.score_moran(scored, reconstruction)
    genes = correlations.merge(space, on="gene")
    result.genes = overlap | {"constant": int((genes["pearson"] == 0).sum())}
    result.pearson, result.spearman = (summary[score] | {"csv": name} for score in ("pearson", "spearman"))
    result.intervals["pearson_median"] = summary.get("interval")
    return genes


def main(input, output, params, wildcards, threads):
    model = files.read_json(input.record)
    predicted, table = read_table(input)
    refined = pd.read_parquet(input.refinement[0]).set_index("cell_id")["kept"] if input.refinement else None
    chosen, scored_on = evaluate.scored_rows(table, params.role, refined)
    if not chosen.any():
        raise InputError(
            wildcards.sample,
            "no cell to score: none of the kept cells of this part has a label",
            "Give the sample a larger split, a table of labels, or the role predict",
        )
    rows, kept = np.flatnonzero(chosen), table[chosen]
    label, called = kept["label"].to_numpy(str), kept["predicted"].to_numpy(str)
    types = [t for t in params.types if t in set(table["label"].dropna()) | set(model["classes"])]
    xy = predicted.obsm["spatial"][rows]
    block = blocks_of(kept.index, input, wildcards.sample, xy, params.block_um)
    n_blocks = int(block.max()) + 1
    weights = metrics.resample_blocks(n_blocks, params.draws, params.seed) if n_blocks > 1 else None
    scored, overlap = read_scored(input, wildcards.sample, label, xy, block, kept.index, model["genes"])
    result = Evaluation(
        system=wildcards.system,
        kind=model["kind"],
        encoder=model["encoder"],
        protocol=wildcards.protocol,
        sample=wildcards.sample,
        unit=wildcards.unit,
        role=params.role,
        scored_on=scored_on,
        n=len(rows),
        intervals={"n_blocks": n_blocks, "draws": params.draws},
        reasons=reasons(input),
        model_sha256=files.sha256(input.model),
        versions=versions(),
    )
    genes = pd.DataFrame(columns=["gene", "pearson", "moran_actual", "moran_predicted"])
    if model["genes"]:
        name = output.genes.rpartition("/")[2]
        genes = add_expression(result, scored, predicted, rows, weights, overlap, name, threads)
    if model["classes"]:
        add_types(result, scored, predicted, rows, called, types, weights, model)
        mpp = Registration.read(input.registration).mpp
        result.comparators = comparators.score(
            params.comparators, predicted.obsm["pixel"], mpp, rows, label, called, list(params.types)
        )
        if refined is not None:
            every = table[(table["part"] == "test") & table["label"].notna()]
            scores = evaluate.score_types(every["label"].to_numpy(str), every["predicted"].to_numpy(str), types)
            result.unrefined = len(every), scores
    write(output, result, genes, scored, kept, called, predicted.obsm["pixel"][rows])


def write(output, result, genes, scored, kept, called, pixel):
    """Write the evaluation, and the tables that figures are drawn of."""
    marker_scores = markers.scores(scored.counts, scored.cell_type, scored.genes)
    for path, table in ((output.genes, genes), (output.markers, marker_scores)):
        with files.atomic_write(path) as tmp_path:
            table.to_csv(tmp_path, index=False, float_format="%.6g")
    columns = {"label": scored.cell_type, "predicted": called, "block": scored.block, "x": pixel[:, 0], "y": pixel[:, 1]}
    with files.atomic_write(output.scored) as tmp_path:
        pd.DataFrame({"cell_id": kept.index, **columns}).to_parquet(tmp_path, index=False)
    result.write(output.scores)
    types, pearson = result.types, result.pearson
    console.log.info(
        f"{result.system}, {result.protocol}, {result.n:,} cells"
        + (f": weighted F1 {types.weighted:.3f}, macro {types.macro:.3f}" if types else "")
        + (f"; median R {pearson['median']:.3f}" if pearson else "")
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
