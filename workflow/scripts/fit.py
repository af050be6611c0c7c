"""Fits a system on the training units of a fold; writes what it learnt, what it is, and how the fit went."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.encode import device
from shest.io.counts import join, read_counts
from shest.io.tensors import write_tensors
from shest.labels import training_set
from shest.systems import base, sources

RULES = {
    "strict": "{folds} folds by {by}, blocks of {block_um} µm, windows of different parts do not meet",
    "paper": "random over cells (as published)",
}


def gather(table, classes, held_out, input, params):
    """Bring the units' counts and what the system reads of them together, in the order of the samples."""
    parts = []
    for sample, store in zip(params.samples, input.stores, strict=True):
        counts, genes, cell_ids = read_counts(store)
        wanted = table.loc[table["sample"] == sample, "id"]
        parts.append((counts[training_set.rows_of(wanted, cell_ids, store)], genes))
    counts, genes, measured = join(parts)
    table = table.sort_values("sample", key=lambda s: s.map(params.samples.index), kind="stable", ignore_index=True)
    units = list(zip(table["sample"], table["id"], strict=True))
    source = sources.open_source(params.reads, [*input.source, *input.views], units)
    part = {name: np.flatnonzero(table["part"] == name) for name in ("train", "val")}
    sample = table["sample"].map(params.samples.index).to_numpy(np.int64)
    label = table["label"].to_numpy(np.int64)
    data = training_set.TrainingSet(
        source, counts, measured, sample, label, part["train"], part["val"], classes, genes.symbols, held_out
    )
    return data, table, genes.ids


def fit(system, data, model, title):
    """Fit; a divergence keeps the last good weights beside the log and ends with one sentence."""
    try:
        with console.track(system.steps(), f"fit {title}", "steps") as advance:
            return system.fit(data, advance)
    except base.Diverged as error:
        kept = f"{model}.last_good"
        write_tensors(kept, error.good)
        raise InputError(
            title,
            f"{error}; the last good weights are in {kept}",
            "Lower train.learning_rate, or set train.precision to fp32",
        ) from None


def main(input, output, params, wildcards, threads):
    torch.set_num_threads(threads)
    unit = params.system["unit"]
    split = training_set.read_split(input.split, unit)
    refined = training_set.read_fold(params.samples, input.refinement, wildcards.fold)
    if unit == "spots":
        table, classes = training_set.spot_training_table(split, wildcards.protocol, params.min_cells), []
    else:
        table, classes = training_set.training_table(split, refined, wildcards.protocol, params.min_cells)
    held_out = None if wildcards.protocol == "paper" else split.loc[split["part"] == "test", ["sample", "id"]]
    held_out = held_out if held_out is None else list(held_out.itertuples(index=False, name=None))
    data, table, gene_ids = gather(table, classes, held_out, input, params)
    console.log.info(f"{len(data.train):,} training, {len(data.val):,} validation {unit}, {len(data.genes):,} genes")
    system = base.spec_of(params.system["kind"]).create(params.settings)
    title = f"{wildcards.system}, {wildcards.protocol}, fold {wildcards.fold}"
    system.scratch = Path(output.model).parent / "scratch"
    ids = dict(zip(data.genes, gene_ids, strict=True))
    data = system.choose(data)
    rows = fit(system, data, output.model, title)
    calibration = base.calibrate(system, data)
    first = system.predict(data.source.take(data.train[:1]))
    counts = {p: table.loc[table["part"] == p, "cell_type"].value_counts().to_dict() for p in ("train", "val")}
    info = {
        "system": wildcards.system,
        "kind": params.system["kind"],
        "unit": unit,
        "encoder": params.system.get("encoder"),
        "protocol": wildcards.protocol,
        "fold": wildcards.fold,
        "fingerprint": data.source.fingerprint,
        "dim": data.source.dim,
        "classes": [] if first.type_logits is None else classes,
        "genes": [] if first.expected is None else data.genes,
        "gene_ids": [] if first.expected is None else [ids[name] for name in data.genes],
        "cells": counts,
        "samples": list(params.samples),
        "classes_left_out": sorted(set(split["cell_type"].dropna()) - set(classes)),
        "split": {"digest": files.sha256(input.split), "rule": RULES[wildcards.protocol].format(**params.split)},
        "refined": refined is not None,
        "settings": params.settings,
        "calibration": calibration,
        "temperature": calibration["temperature"],
        "expression_unit": system.expression_unit.format(unit=unit.removesuffix("s")),
        "versions": versions(),
    }
    with files.atomic_write(output.history) as tmp_path:
        pd.DataFrame(rows, columns=base.HISTORY).to_csv(tmp_path, index=False, float_format="%.6g")
    base.save(output.model, output.record, base.Trained(system, info))
    shutil.rmtree(system.scratch, ignore_errors=True)


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
