"""Brings another program's predictions to this run's cells, genes and scale, or says why they stand apart."""

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.io import predictions, programs
from shest.io.genes import Genes
from shest.io.registration import Registration
from shest.score import programs as adopting

UNIT = "counts per cell, as another program expects them"


def read_cells(path):
    """Kept cells as the first system predicts them: place, part and fold, by id; and the genes that it knows."""
    found = ad.read_h5ad(path, backed="r")
    cells = pd.DataFrame({name: found.obs[name].astype(str) for name in ("part", "fold")})
    cells[["x", "y"]], cells[["x_um", "y_um"]] = found.obsm["pixel"], found.obsm["spatial"]
    return cells


def main(input, output, params, wildcards):
    entry, program = params.entry, programs.read(input.file, params.entry["scale"])
    cells, models = read_cells(input.cells), [files.read_json(path) for path in input.models]
    known = next((Genes.of(m["genes"], m["gene_ids"]) for m in models if m["genes"]), Genes())
    columns, genes = adopting.shared_names(program, known)
    rows = adopting.partners(program, cells, Registration.read(input.registration).mpp, entry["radius_um"])
    apart = adopting.why_apart(program, entry, wildcards.sample, params.role, cells, rows, genes)
    kinds = None if apart else adopting.types_of(program, entry, params.types)
    there = np.zeros(len(rows), bool) if apart else rows >= 0
    if kinds is not None:
        there[there] = np.array([kind is not None for kind in kinds[rows[there]]])
    cells, rows = cells[there], rows[there]
    classes = [] if kinds is None else [t for t in params.types if t in set(kinds[rows])]
    scale = programs.unit_of(program.unit or entry["unit"])

    def blocks():
        for start in range(0, len(rows), predictions.ROWS):
            part = rows[start : start + predictions.ROWS]
            block = {"expected": program.expected(part, columns, scale)}
            if classes:
                said = pd.Categorical(kinds[part], classes).codes
                block["probability"] = np.eye(len(classes), dtype=np.float32)[said]
            yield block

    with files.atomic_write(output.predictions) as tmp_path:
        uns = {"unit": UNIT, "sample": wildcards.sample, "system": wildcards.program}
        predictions.write(tmp_path, blocks(), cells, classes, [] if apart else genes, uns)
    ids = dict(zip(known.symbols, known.ids, strict=True))
    record = {
        "system": wildcards.program,
        "kind": "program",
        "encoder": None,
        "fold": models[0]["fold"],
        "classes": classes,
        "genes": [] if apart else genes,
        "gene_ids": [] if apart else [ids[name] for name in genes],
        "expression_unit": UNIT,
        "temperature": None,
        "trained_on": program.trained_on or entry["trained_on"],
        "cells": {"in_file": program.data.n_obs, "adopted": len(rows)},
        "apart": apart,
    }
    files.write_json(output.record, record)
    said = f"set apart: it {apart}" if apart else f"{len(rows):,} cells, {len(genes):,} genes"
    console.log.info(f"{wildcards.program}, {wildcards.sample}: {said}")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
