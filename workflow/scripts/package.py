"""Packs a deployed model with what it needs on another machine, and with a probe that shows whether it works there."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.io.registration import Registration
from shest.io.store import image_scales
from shest.labels.training_set import read_split
from shest.run import packages
from shest.score.domain import Domain
from shest.systems import base, sources
from shest.systems.predicting import predict_block
from shest.tiles.shards import Windows

CELLS, TILES, FIELD_PX, SEED = 20_000, 32, 1024, 42
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


def field(slide, name):
    """Pixels around a cell, and their size, µm."""
    image, mpp = image_scales(slide.store)[0], Registration.read(slide.registration).mpp
    place = pd.read_parquet(slide.store.parent / "cells.parquet").set_index("cell_id").loc[name, ["y", "x"]]
    sides = np.minimum(image.shape[1:], FIELD_PX)
    top, left = np.clip(place.to_numpy(float) - sides / 2, 0, image.shape[1:] - sides).astype(int)
    return {"field": np.asarray(image[:, top : top + sides[0], left : left + sides[1]]), "mpp": np.array(mpp)}


def encoder_facts(record):
    """What is said of the encoder; not where its weights lay on this machine."""
    facts = {key: value for key, value in record.items() if key != "weights"}
    if "entry" in facts:
        facts["entry"] = {key: value for key, value in facts["entry"].items() if value is not None}
    return facts


def main(input, output, params, wildcards):
    trained = base.load(input.model, input.record)
    split = read_split(input.split)
    table = drawn(split[split["part"] == "train"], CELLS)
    units = list(zip(table["sample"], table["id"], strict=True))
    source = sources.open_source(params.reads, input.source, units)
    windows = Windows(input.tiles, units)
    looks = params.reads in ("embeddings", "slide")
    seen = trained.system.embed(source.take(np.arange(len(units)))) if looks else np.empty((len(units), 0), np.float16)
    sample = table["sample"].to_numpy()
    domain = Domain.of(seen, colours(windows, sample), sizes(table, input.cells))
    own = table[table["sample"] == sample[0]].sample(frac=1, random_state=SEED)
    rows = np.sort(own.index.to_numpy()[:TILES])
    if base.spec_of(trained.info["kind"]).outlines:
        probe = field(source.samples[sample[0]], own["id"].iloc[0])
        _, x, _ = trained.system.sweep([probe["field"]], tuple(probe["mpp"]), FIELD_PX, 1)
    else:
        probe = dict(zip(("windows", "masks"), windows.take(rows), strict=True))
        x = source.take(rows)
    if params.reads == "patches":
        probe["patches"] = x[:]
    if looks:
        probe["embeddings"] = np.asarray(x, np.float32)
    keys = np.arange(len(x), dtype=np.uint64)
    answers = predict_block(trained, x, keys, sorted(trained.classes), np.arange(len(trained.genes)))
    named = {"probabilities": answers.get("probability"), "expression": answers.get("expected")}
    probe |= {name: np.asarray(value, np.float32) for name, value in named.items() if value is not None}
    probe |= {f"{packages.DOMAIN}{name}": value for name, value in domain.tensors().items()}
    encoder = files.read_json(input.encoder[0]) if input.encoder else None
    parts = {packages.MODEL: input.model, packages.CARD: input.card}
    if input.segmenter:
        parts[packages.SEGMENTER] = input.segmenter[0]
    if encoder and encoder.get("weights") and params.encoder_weights:
        parts[packages.ENCODER] = encoder["weights"]
    facts = {
        "format": packages.FORMAT,
        "encoder": encoder_facts(encoder) if encoder else None,
        "reads": params.reads,
        "probe_sample": sample[0],
        "window_um": params.window_um,
        "cells": params.cells,
        "cell_types": params.cell_types,
    }
    packages.write(Path(output.checksums).parent, parts, trained.info | {"package": facts}, probe)
    console.log.info(f"{wildcards.system}: {len(x)} cells to probe it by, training cells described by {len(units):,}")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
