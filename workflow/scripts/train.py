"""Trains both heads and the baselines on cached embeddings; writes model, record, losses and picture."""

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.draw import training_plots
from shest.encode import cache, device
from shest.io.counts import join, read_counts
from shest.labels import training_set
from shest.systems import uncertainty
from shest.systems.linear import baselines
from shest.systems.shest import model, training

RULES = {
    "strict": "spatial blocks of {block_um} µm, windows of different parts do not meet",
    "paper": "random over cells (as published)",
}


def gather(table, input, params):
    """Bring the cells' counts and embeddings together, in the order of the table."""
    parts = []
    for sample, store in zip(params.samples, params.stores, strict=True):
        counts, genes, cell_ids = read_counts(store)
        wanted = table.loc[table["sample"] == sample, "cell_id"]
        parts.append((counts[pd.Index(cell_ids).get_indexer(wanted)], genes))
    counts, genes, measured = join(parts)
    table = table.sort_values("sample", key=lambda s: s.map(params.samples.index), kind="stable", ignore_index=True)
    cells = list(zip(table["sample"], table["cell_id"], strict=True))
    embeddings = cache.Embeddings([*input.embeddings, *input.views], cells)
    where = {part: np.flatnonzero(table["part"] == part) for part in ("train", "val")}
    sample = table["sample"].map(params.samples.index).to_numpy(np.int64)
    label = table["label"].to_numpy(np.int64)
    return training.Data(embeddings, counts, measured, sample, label, where["train"], where["val"]), genes, table


def train(data, settings, output):
    """Train; a divergence keeps the last good weights beside the log and ends with one sentence."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        with console.track(settings.members * settings.epochs, f"train on {device}", "epochs") as advance:
            return training.fit(data, settings, device, advance), device
    except training.Diverged as error:
        kept = f"{output.model}.{error.head}.last_good"
        save_file(error.good, kept)
        raise InputError(
            "train",
            f"{error}; the last good weights are in {kept}",
            "Lower train.learning_rate, or set train.precision to fp32",
        ) from None


def calibrate(built, data):
    """Fit the temperature on the validation cells; say the calibration error before and after."""
    logits, label = model.type_logits(built, data.embeddings.take(data.val)), data.label[data.val]
    temperature = uncertainty.fit_temperature(logits, label)
    errors = [
        uncertainty.calibration_error(uncertainty.ensemble(logits, t), label) if len(label) else None
        for t in (1.0, temperature)
    ]
    return {"temperature": temperature, "cells": len(label), "ece_before": errors[0], "ece_after": errors[1]}


def main(input, output, params, wildcards, threads):
    torch.set_num_threads(threads)
    split = pd.read_parquet(input.split)
    refined = {s: pd.read_parquet(p) for s, p in zip(params.samples, input.refinement, strict=True)}
    table, classes = training_set.training_table(split, refined, wildcards.protocol, params.train["min_cells"])
    data, genes, table = gather(table, input, params)
    settings = training.Settings.of(params.train)
    console.log.info(f"{len(data.train):,} training, {len(data.val):,} validation cells, {len(genes):,} genes")
    fit, device = train(data, settings, output)
    counts = {p: table.loc[table["part"] == p, "cell_type"].value_counts().to_dict() for p in ("train", "val")}
    info = {
        "encoder": wildcards.encoder,
        "protocol": wildcards.protocol,
        "fingerprint": data.embeddings.fingerprint,
        "dim": data.embeddings.dim,
        "genes": genes,
        "classes": classes,
        "cells": counts,
        "samples": list(params.samples),
        "classes_left_out": sorted(set(split["cell_type"]) - set(classes)),
        "split": {"digest": files.sha256(input.split), "rule": RULES[wildcards.protocol].format(**params.split)},
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(settings).items()},
        "device": str(device),
        "versions": versions(),
    }
    info["calibration"] = calibrate(model.assemble(fit, info, torch.device("cpu")), data)
    info["temperature"] = info["calibration"]["temperature"]
    baselines.save(output.baselines, baselines.fit(data, settings.seed))
    rows = pd.DataFrame(fit.rows)
    with files.atomic_write(output.losses) as tmp_path:
        rows.to_csv(tmp_path, index=False, float_format="%.6g")
    with files.atomic_write(output.picture) as tmp_path:
        training_plots.draw_training(rows, f"{wildcards.encoder}, {wildcards.protocol}", tmp_path)
    model.save_model(output.model, output.record, fit, info)


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
