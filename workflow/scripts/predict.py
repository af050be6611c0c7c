"""Predicts type and expression of every kept unit of a sample: training samples by the models that never saw it."""

import numpy as np

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.io import predictions
from shest.labels.held_out import kept_units, parts_and_folds
from shest.labels.training_set import rows_of
from shest.systems import base, sources
from shest.systems.predicting import predict_block


def merge(trained):
    """Return the types of several models of one system, and the genes that all of them know, as the first has them."""
    classes = list(dict.fromkeys(name for model in trained for name in model.classes))
    shared = set.intersection(*(set(model.genes) for model in trained))
    if trained[0].genes and not shared:
        raise InputError("models", "folds of one system have no gene in common", "Let it learn more genes")
    return sorted(classes), [gene for gene in trained[0].genes if gene in shared]


def main(input, output, params, wildcards):
    trained = [base.load(*paths) for paths in zip(input.models, input.records, strict=True)]
    classes, genes = merge(trained)
    genes = [genes[k] for k in predictions.chosen(params.genes, genes)]
    cells = kept_units(input.cells, input.registration)
    source = sources.open_source(params.reads, input.source, [(wildcards.sample, c) for c in cells["cell_id"]])
    if len(cells) and params.reads == "embeddings" and not params.probed:
        for model in trained:
            model.check_fingerprint(source.fingerprint, input.source[0])
    cells["part"], cells["fold"], folds = parts_and_folds(cells, input.splits, params, wildcards)
    keys = base.unit_keys(wildcards.sample, cells["cell_id"])
    models = dict(zip(folds, trained, strict=True))
    columns = {name: rows_of(genes, model.genes, "models") for name, model in models.items()}
    info = trained[0].info
    gene_ids = dict(zip(info["genes"], info["gene_ids"], strict=True))
    provenance = {
        "sample": wildcards.sample,
        "protocol": wildcards.protocol,
        "system": wildcards.system,
        "encoder": info["encoder"] or "",
        "fingerprint": info["fingerprint"],
        "unit": info["expression_unit"],
        "gene_ids": [gene_ids[name] for name in genes],
        "model_sha256": [files.sha256(path) for path in input.models],
        "versions": versions(),
    }

    def blocks(advance):
        for name, model in models.items():
            model.system.survey(source.take(np.flatnonzero(cells["fold"] == name)))
        for start in range(0, len(cells), predictions.ROWS):
            rows = np.arange(start, min(start + predictions.ROWS, len(cells)))
            yield by_fold(rows)
            advance(len(rows))

    def by_fold(rows):
        """Each unit by the model of its fold, put back in order."""
        fold = cells["fold"].to_numpy()[rows]
        parts = [rows[fold == name] for name in models]
        found = [
            predict_block(models[name], source.take(part), keys[part], classes, columns[name])
            for name, part in zip(models, parts, strict=True)
            if len(part)
        ]
        order = np.argsort(np.concatenate(parts), kind="stable")
        return {name: np.concatenate([part[name] for part in found])[order] for name in found[0]}

    with (
        console.track(len(cells), f"predict {wildcards.sample}") as advance,
        files.atomic_write(output.predictions) as tmp_path,
    ):
        units = cells.set_index("cell_id").rename_axis(f"{wildcards.unit.removesuffix('s')}_id")
        predictions.write(tmp_path, blocks(advance), units, classes, genes, provenance)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
