"""Packs a deployed model with what it needs on another machine, and with a probe that shows whether it works there."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.run import packages
from shest.score.domain import Domain
from shest.systems import base, sources
from shest.systems.predicting import predict_block
from shest.tiles.shards import Windows

CELLS, TILES, SEED = 20_000, 32, 42
COLOUR_ROWS = 2048


def drawn(table, most):
    """At most so many rows, at random, in their order."""
    rows = np.random.default_rng(SEED).permutation(len(table))[:most]
    return table.iloc[np.sort(rows)].reset_index(drop=True)


def colours(windows, sample):
    """Mean colour of each window, (n, 3); windows of a sample have one size."""
    out = np.empty((len(sample), 3), np.float32)
    for name in dict.fromkeys(sample):
        rows = np.flatnonzero(sample == name)
        for start in range(0, len(rows), COLOUR_ROWS):
            part = rows[start : start + COLOUR_ROWS]
            out[part] = windows.take(part)[0].mean(axis=(1, 2))
    return out


def sizes(table, paths):
    """Size of each nucleus, µm."""
    found = pd.concat(
        [
            pd.read_parquet(p, columns=["cell_id", "width_um", "height_um"]).assign(sample=Path(p).parent.name)
            for p in paths
        ]
    ).set_index(["sample", "cell_id"])
    found = found.loc[list(zip(table["sample"], table["id"], strict=True))]
    return np.sqrt(found["width_um"].to_numpy() * found["height_um"].to_numpy())


def encoder_facts(record):
    """What is said of the encoder; not where its weights lay on this machine."""
    facts = {key: value for key, value in record.items() if key != "weights"}
    if "entry" in facts:
        facts["entry"] = {key: value for key, value in facts["entry"].items() if value is not None}
    return facts


def main(input, output, params, wildcards):
    trained = base.load(input.model, input.record)
    split = pd.read_parquet(input.split)
    table = drawn(split[split["part"] == "train"], CELLS)
    units = list(zip(table["sample"], table["id"], strict=True))
    source = sources.open_source(params.reads, input.source, units)
    windows = Windows(input.tiles, units)
    embeddings = (
        np.asarray(source.take(np.arange(len(units)))) if params.reads == "embeddings" else np.empty((len(units), 0))
    )
    sample = table["sample"].to_numpy()
    domain = Domain.of(embeddings, colours(windows, sample), sizes(table, input.cells))
    own = table[table["sample"] == sample[0]]
    rows = own.sample(min(TILES, len(own)), random_state=SEED).index.to_numpy()
    pixels, masks = windows.take(rows)
    probe = {"windows": pixels, "masks": masks}
    if params.reads == "embeddings":
        probe["embeddings"] = embeddings[rows].astype(np.float32)
    classes, genes = sorted(trained.classes), np.arange(len(trained.genes))
    keys = base.unit_keys(sample[0], table["id"].to_numpy()[rows])
    answers = predict_block(trained, source.take(rows), keys, classes, genes)
    named = {"probabilities": answers.get("probability"), "expression": answers.get("expected")}
    probe |= {name: np.asarray(value, np.float32) for name, value in named.items() if value is not None}
    probe |= {f"{packages.DOMAIN}{name}": value for name, value in domain.tensors().items()}
    encoder = files.read_json(input.encoder[0]) if input.encoder else None
    parts = {packages.MODEL: input.model, packages.CARD: input.card}
    if encoder and encoder.get("weights") and params.encoder_weights:
        parts[packages.ENCODER] = encoder["weights"]
    facts = {
        "format": packages.FORMAT,
        "encoder": encoder_facts(encoder) if encoder else None,
        "reads": params.reads,
        "window_um": params.window_um,
        "cells": params.cells,
        "cell_types": params.cell_types,
    }
    packages.write(Path(output.checksums).parent, parts, trained.info | {"package": facts}, probe)
    console.log.info(
        f"{wildcards.system}: {len(rows)} tiles to probe it by, training cells described by {len(units):,}"
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
