"""Scores a system's predictions of a sample against its labels and counts."""

from hashlib import blake2b

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.io import expression
from shest.io.counts import read_counts
from shest.io.genes import Genes
from shest.io.predictions import DRAWN
from shest.io.registration import Registration
from shest.io.transcripts import read_transcripts
from shest.labels import training_set
from shest.labels.training_set import rows_of
from shest.score import common_scale, comparators, evaluate, metrics, properties
from shest.score.evaluation import PROGRAM, Evaluation

LABELS = {"label": "cell_type", "table_label": "table_type"}  # columns of annotation.parquet


def read_table(input):
    """Return the opened predictions, and of every unit: predicted type, part, fold, label, table's type; by its id."""
    predicted = ad.read_h5ad(input.predictions, backed="r")
    table = pd.DataFrame({name: predicted.obs[name].astype(str) for name in ("cell_type", "part", "fold")})
    table = table.rename(columns={"cell_type": "predicted"})
    if not input.annotation:  # spots: those that are kept have counts, and none has a type
        return predicted, table.assign(label="spot", table_label=None)
    labels = pd.read_parquet(input.annotation[0]).set_index("cell_id")
    return predicted, table.assign(**{name: labels[c].reindex(table.index) for name, c in LABELS.items()})


def shared_ground(paths):
    """Return the ids and the genes that every one of some predictions has; a program that stands apart has no cells."""
    opened = [found for found in (ad.read_h5ad(path, backed="r") for path in paths) if found.n_obs]
    ids = set.intersection(*(set(found.obs_names) for found in opened))
    genes = [set(found.var_names) for found in opened if found.n_vars]
    return ids, set.intersection(*genes) if genes else set()


def blocks_of(ids, input, sample, unit, xy, block_um):
    """Number the spatial blocks that intervals are over: the split's, else squares."""
    if input.splits:
        split = training_set.read_split(input.splits[0], unit)
        block = split[split["sample"] == sample].set_index("id")["block"]
        if block.nunique() > 1:
            return pd.factorize(block.reindex(ids))[0]
    return metrics.grid_blocks(xy, block_um)


def reasons(input, unit):
    """Count the sample's units by why they are kept or labelled, or not."""
    return {
        name: pd.read_parquet(path, columns=["reason"])["reason"].value_counts().sort_index().to_dict()
        for name, path in ((unit, input.cells), *(("annotation", path) for path in input.annotation))
    }


def sums_known(counts, symbols, models, fold):
    """Sum units' values (n, genes) over the genes that the model of each one's fold knows, (n,)."""
    alike = all(model["genes"] == models[0]["genes"] for model in models)
    total = np.zeros(len(fold))
    for model in models[:1] if alike else models:
        rows = np.arange(len(fold)) if alike else np.flatnonzero(fold == model["fold"])
        total[rows] = np.asarray(counts[rows][:, np.isin(symbols, model["genes"])].sum(axis=1), float).ravel()
    return total


def genes_of(models):
    """Return the genes that any of some models knows."""
    ids = {gene: own for model in models for gene, own in zip(model["genes"], model["gene_ids"], strict=True)}
    return Genes.of(list(ids), list(ids.values()))


def read_scored(input, sample, label, xy, block, fold, ids, predicted, known, models, depth):
    """Return the scored units with their counts of the genes that are predicted, and what became of the others."""
    counts, panel, cell_ids = read_counts(input.store, known)
    genes, overlap = evaluate.gene_overlap(panel.symbols, predicted, known.symbols)
    if len(known) and not set(known.symbols) & set(panel.symbols):
        raise InputError(
            sample,
            "its panel has no gene that the model was trained on",
            "Check that both name genes alike, or give the sample the role predict",
        )
    rows, columns = rows_of(ids, cell_ids, input.store), rows_of(genes, panel.symbols, input.store)
    total = sums_known(counts[rows], panel.symbols, models, fold)
    chosen = counts[rows][:, columns]
    in_unit = expression.normalise(chosen, total, *depth).tocsc()
    in_logs = expression.scale_of(depth[0]) != "counts"
    return evaluate.Scored(label, xy, block, in_unit, genes, fold, in_logs), chosen, total, overlap


def digest(names):
    """Digest of names in any order."""
    return blake2b("\n".join(sorted(names)).encode(), digest_size=8).hexdigest()


def add_types(result, scored, predicted, rows, kept, types, classes, temperatures):
    """Score types: F1, of each fold too, distances between them, calibration, intervals."""
    called = kept["predicted"].to_numpy(str)
    result.types = evaluate.score_types(scored.cell_type, called, types)
    result.distances = evaluate.score_distances(scored.xy, scored.cell_type, called, types)
    label = pd.Categorical(scored.cell_type, classes).codes.astype(int)
    probability, before = predicted.obsm["probabilities"][rows], predicted.obs["uncalibrated"].to_numpy()[rows]
    intervals, without = evaluate.type_intervals(scored.cell_type, called, types, scored.block)
    if None not in temperatures:  # another program's types come without probabilities
        result.calibration = evaluate.calibration(before, probability, label, float(np.mean(temperatures)))
        right = probability.argmax(axis=1) == label
        ece, ece_without = evaluate.calibration_intervals(probability.max(axis=1), right, scored.block)
        intervals, without = intervals | {"ece": ece}, without | {"ece": ece_without}
    result.intervals |= intervals
    result.intervals["without"] |= without
    if kept["fold"].nunique() > 1:
        result.folds = evaluate.score_folds(kept, types)
        result.spread = {name: float(np.std([f[name] for f in result.folds], ddof=1)) for name in ("weighted", "macro")}


def truth_reader(input, scored, ids, models, depth):
    """Return a reader of the expectations, in the unit that is predicted, that simulated counts were drawn from.

    None where nobody knows them.
    """
    if not input.truth:
        return None
    truth = ad.read_h5ad(input.truth[0])
    columns, rows = truth.var_names.get_indexer(scored.genes), rows_of(ids, truth.obs_names, input.truth[0])

    def expected(wanted):
        return (1 - truth.layers["pi"][rows][:, wanted]) * truth.X[rows][:, wanted]

    in_logs = expression.scale_of(depth[0]) != "counts"
    everything = np.arange(truth.n_vars)
    total = sums_known(expected(everything), truth.var_names, models, scored.fold) if in_logs else np.ones(len(rows))

    def read(part):
        wanted = columns[part]
        in_unit = expression.normalise(sparse.csr_matrix(expected(wanted)), total, *depth).toarray()
        return np.where(wanted >= 0, in_unit, np.nan)

    return read


def add_expression(result, scored, predicted, rows, overlap, name, truth, threads):
    """Score expression; return the table of genes."""
    columns = rows_of(scored.genes, predicted.var_names, "predictions")
    read = evaluate.columns_of(predicted.X, rows, columns)
    drawn = predicted.layers[DRAWN][rows][:, columns].tocsc() if DRAWN in predicted.layers else None
    genes, summary = evaluate.score_expression(scored, read, threads, drawn, truth)
    result.genes = overlap | {"constant": int((genes["pearson"] == 0).sum())}
    result.pearson, result.spearman = (summary[score] | {"csv": name} for score in ("pearson", "spearman"))
    for score in ("moran", "iou", "auc", "unitwise"):
        setattr(result, score, summary[score])
    result.intervals |= summary["intervals"]
    result.intervals["without"] |= summary["without"]
    return genes


def add_sets(result, genes, sets):
    """Score the sets of genes that a model names."""
    for name, members in sets.items():
        own = genes.loc[genes["gene"].isin(members), "pearson"]
        result.gene_sets[name] = {"genes": len(own), "pearson": float(own.mean()) if len(own) else None}


def add_properties(result, genes, counts, transcripts):
    """Say what of the scored genes' counts (n, genes), and of their transcripts, goes with R; keep it in the table."""
    genes["mean_counts"] = np.asarray(counts.mean(axis=0)).ravel()
    genes["zeros"] = 1 - np.diff(counts.tocsc().indptr) / counts.shape[0]
    if transcripts:
        genes = genes.join(read_transcripts(transcripts[0]), on="gene")
    result.properties = properties.go_with(genes)
    return genes


def add_common(result, scored, counts, total, predicted, rows, depth):
    """Score expression on the scale that all units share."""
    columns, x = rows_of(scored.genes, predicted.var_names, "predictions"), predicted.X
    unit, median = depth

    def read(part):
        wanted = rows[part]
        return x[wanted[0] : wanted[-1] + 1][wanted - wanted[0]][:, columns]

    found = common_scale.score(read, counts, total, unit, median, scored.cell_type, scored.block)
    result.common, intervals, without = found
    result.intervals |= intervals
    result.intervals["without"]["pearson_common"] = without


def depth_of(models, kept):
    """Return the unit of the predicted expression, and the depth of each unit's model where the unit names one."""
    medians = {model["fold"]: model.get("library_median") for model in models}
    of_units = kept["fold"].map(medians)
    return models[0]["expression_unit"], None if of_units.isna().any() else of_units.to_numpy(float)


def scores_of(table, column, types):
    """Number of units that have a label in a column and a type of the config, and scores against it."""
    table = table[table[column].isin(types)]
    if table.empty:
        return None
    return len(table), evaluate.score_types(table[column].to_numpy(str), table["predicted"].to_numpy(str), types)


def main(input, output, params, wildcards, threads):
    models = [files.read_json(path) for path in input.records]
    predicted, table = read_table(input)
    classes, known = list(predicted.uns["classes"]), genes_of(models)
    refined = training_set.read_fold([wildcards.sample], input.refinement, models[0]["fold"])
    kept_by_refinement = refined and refined[wildcards.sample].set_index("cell_id")["kept"]
    chosen, scored_on = evaluate.scored_rows(table, params.role, wildcards.protocol, kept_by_refinement, wildcards.unit)
    names, ground = list(predicted.var_names), "all"
    if input.get("shared"):
        ids, genes = shared_ground(input.shared)
        names, ground = [name for name in names if name in genes], "shared"
        chosen &= table.index.isin(list(ids))
    apart = models[0].get("apart") or (ground == "shared" and not chosen.any() and "has no cell that is scored")
    if apart:
        write_apart(output, wildcards, params.role, scored_on, models[0], apart)
        return
    if not chosen.any():
        raise InputError(
            wildcards.sample,
            f"no cell to score: none of the kept {wildcards.unit} of this part has a label",
            "Give the sample a larger split, a table of labels, or the role predict",
        )
    rows, kept = np.flatnonzero(chosen), table[chosen]
    label = kept["label"].to_numpy(str)
    types = [t for t in params.types if t in set(table["label"].dropna()) | set(classes)]
    xy = predicted.obsm["spatial"][rows]
    block = blocks_of(kept.index, input, wildcards.sample, wildcards.unit, xy, params.block_um)
    fold, depth = kept["fold"].to_numpy(str), depth_of(models, kept)
    scored, counts, total, overlap = read_scored(
        input, wildcards.sample, label, xy, block, fold, kept.index, names, known, models, depth
    )
    if ground == "shared":  # one depth for all that stand on it, whatever else each of them knows
        total = np.asarray(counts.sum(axis=1), float).ravel()
    result = Evaluation(
        system=wildcards.system,
        kind=models[0]["kind"],
        encoder=models[0]["encoder"],
        protocol=wildcards.protocol,
        sample=wildcards.sample,
        unit=wildcards.unit,
        role=params.role,
        scored_on=scored_on,
        n=len(rows),
        intervals={"n_blocks": int(block.max()) + 1, "without": {}},
        expression_unit=models[0]["expression_unit"] if names else "",
        reasons=reasons(input, wildcards.unit),
        ground=ground,
        units_digest=digest(kept.index),
        genes_digest=digest(scored.genes),
        model_sha256=", ".join(files.sha256(path) for path in input.models),
        versions=versions(),
    )
    genes = pd.DataFrame(columns=["gene", "pearson", "moran_actual", "moran_predicted", "moran_drawn", "id"])
    if names:
        result.genes = overlap
    if scored.genes:
        name = output.genes.rpartition("/")[2]
        truth = truth_reader(input, scored, kept.index, models, depth)
        genes = add_expression(result, scored, predicted, rows, overlap, name, truth, threads)
        genes = add_properties(result, genes, counts, input.transcripts)
        add_sets(result, genes, models[0].get("gene_sets", {}))
        if expression.is_expression(depth[0]):
            add_common(result, scored, counts, total, predicted, rows, depth)
        genes["id"] = genes["gene"].map(dict(zip(known.symbols, known.ids, strict=True)))
    programs = pd.DataFrame()
    if wildcards.unit == "spots":
        result.without_types()
        genes = genes.drop(columns="pearson_within_type", errors="ignore")
    elif classes:
        temperatures = [model["temperature"] for model in models]
        add_types(result, scored, predicted, rows, kept, types, classes, temperatures)
        mpp, called = Registration.read(input.registration).mpp, kept["predicted"].to_numpy(str)
        result.comparators, programs = comparators.score(
            params.comparators,
            predicted.obsm["pixel"],
            mpp,
            rows,
            label,
            called,
            list(params.types),
            whole=params.role != "train" or wildcards.protocol == "strict",
        )
        unseen = table[(table["part"] == "test") if params.role == "train" else slice(None)]
        if refined:
            result.unrefined = scores_of(unseen, "label", types)
        if table["table_label"].notna().any():
            result.table = scores_of(unseen_of_table(table, params.role, wildcards.protocol), "table_label", types)
    write(output, result, genes, scored, kept, predicted.obsm["pixel"][rows], programs)


def write_apart(output, wildcards, role, scored_on, record, apart):
    """Say that another program cannot be compared, and nothing else."""
    names = {key: getattr(wildcards, key) for key in ("system", "protocol", "sample", "unit")}
    result = Evaluation(
        **names, kind=record["kind"], encoder=None, role=role, scored_on=scored_on, n=0, ground="shared", apart=apart
    )
    result.write(output.scores)
    with files.atomic_write(output.genes) as tmp_path:
        pd.DataFrame(columns=["gene"]).to_csv(tmp_path, index=False)
    with files.atomic_write(output.scored) as tmp_path:
        pd.DataFrame(columns=["cell_id"]).to_parquet(tmp_path, index=False)
    console.log.info(f"{wildcards.system} is not compared: it {apart}")


def unseen_of_table(table, role, protocol):
    """Units that no model which predicted them was trained on, labelled or not."""
    if role != "train" or protocol == "strict":
        return table
    return table[~table["part"].isin(["train", "val"])]


def write(output, result, genes, scored, kept, pixel, programs):
    """Write the evaluation, and the tables that figures are drawn of."""
    with files.atomic_write(output.genes) as tmp_path:
        genes.to_csv(tmp_path, index=False, float_format="%.6g")
    columns = kept[["label", "predicted", "fold"]].reset_index(names=f"{result.unit.removesuffix('s')}_id")
    columns = columns.assign(block=scored.block, x=pixel[:, 0], y=pixel[:, 1])
    columns = columns.assign(**{f"{PROGRAM}{name}": programs[name] for name in programs})
    with files.atomic_write(output.scored) as tmp_path:
        columns.to_parquet(tmp_path, index=False)
    result.write(output.scores)
    types, pearson = result.types, result.pearson
    console.log.info(
        f"{result.system}, {result.protocol}, {result.n:,} {result.unit}"
        + (f": weighted F1 {types.weighted:.3f}, macro {types.macro:.3f}" if types else "")
        + (f"; median R {pearson['median']:.3f}" if pearson else "")
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
