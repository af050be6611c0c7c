"""The paper's figures and tables, each with the data it shows: of one system and protocol, and of every F1."""

from shest.draw.figure_list import FIGURES, TABLES

SYSTEM_SHOWN = config["figures"].get("system", next(iter(SYSTEMS)))
PROTOCOL_SHOWN = config["figures"].get("protocol", config["protocols"][0])
SHOWN = {
    "system": SYSTEM_SHOWN,
    "protocol": PROTOCOL_SHOWN,
    "fold": DEPLOYED[PROTOCOL_SHOWN],
    "encoder": encoder_of(SYSTEM_SHOWN),
    "unit": UNIT,
}
EXTERNAL = config["figures"].get("external", with_role("validation")[:2])
FIGURE_SAMPLES = {
    "training": [config["figures"]["training"]] if "training" in config["figures"] else TRAIN_SAMPLES[:1],
    "train": TRAIN_SAMPLES,
    "external": EXTERNAL,
    "first": EXTERNAL[:1],
    "second": EXTERNAL[1:],
}
# What figures read of a sample, by the word in their list.
RESULT_PATHS = {
    "scores": "evaluation/{system}/{protocol}/{sample}.{unit}.json",
    "genes": "evaluation/{system}/{protocol}/{sample}.{unit}.genes.csv",
    "markers": "evaluation/{system}/{protocol}/{sample}.{unit}.markers.csv",
    "scored": "evaluation/{system}/{protocol}/{sample}.{unit}.scored.parquet",
    "predictions": "predictions/{system}/{protocol}/{sample}.{unit}.h5ad",
    "refinements": "refinement/{encoder}/{protocol}/{sample}.parquet",
    "embeddings": "embeddings/{encoder}/{sample}/embeddings.json",
    "annotations": "samples/{sample}/annotation.parquet",
    "registrations": "samples/{sample}/registration.json",
    "cells": "samples/{sample}/cells.parquet",
    "tiles": "samples/{sample}/tiles/tiles.json",
    "stores": "samples/{sample}/sdata.zarr",
}


wildcard_constraints:
    number="|".join(FIGURES),


def figure_samples(wildcards):
    return FIGURE_SAMPLES[FIGURES[wildcards.number].samples]


def figure_inputs(wildcards):
    """Each kind of result that a figure reads, in the order of its samples; scores of every system where it asks so."""
    samples, reads = figure_samples(wildcards), FIGURES[wildcards.number].reads
    paths = {name: expand(results(path), sample=samples, **SHOWN) for name, path in RESULT_PATHS.items()}
    paths["evaluations"] = evaluations(samples=samples)
    return {name: paths[name] for name in reads}


def figure_script(wildcards):
    """Number of the script that draws a figure; one that says in every panel that there is no sample to draw."""
    return (FIGURES[wildcards.number].like or wildcards.number) if figure_samples(wildcards) else "placeholder"


rule figure:
    input:
        unpack(figure_inputs),
    output:
        png=report(results("figures/figure_{number}.png"), caption="../report/figure.rst", category="Figures"),
        pdf=results("figures/figure_{number}.pdf"),
        data=directory(results("figures/source_data/figure_{number}")),
    log:
        results("logs/figures/figure_{number}.log"),
    benchmark:
        results("benchmarks/figures/figure_{number}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(4000, cells=30, scored=30, genes=30, tiles=60, predictions=3, embeddings=2500),
        runtime=from_input_size(20, cells=0.5, genes=1, tiles=1, predictions=0.05, embeddings=60),
    params:
        script=figure_script,
        samples=figure_samples,
        panels=lambda w: FIGURES[w.number].panels,
        missing=lambda w: FIGURES[w.number].missing,
        shown=SHOWN,
        types=TYPES,
        palette=config["figures"]["palette"],
        markers=config["figures"].get("markers"),
        code=lambda w: code(f"figure_{figure_script(w)}"),
    message:
        "Figure {wildcards.number}"
    script:
        "../scripts/figure_{params.script}.py"


rule tables:
    input:
        ingests=expand(results("samples/{sample}/ingest.json"), sample=SAMPLES),
        cells=expand(results("samples/{sample}/cells.parquet"), sample=SAMPLES),
        registrations=expand(results("samples/{sample}/registration.json"), sample=SAMPLES),
        annotations=expand(results("samples/{sample}/annotation.parquet"), sample=LABELLED),
    output:
        datasets=results("tables/table_1.csv"),
        subtypes=results("tables/table_S1.csv"),
    log:
        results("logs/figures/tables.log"),
    benchmark:
        results("benchmarks/figures/tables.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, cells=30, annotations=30),
        runtime=from_input_size(10, cells=0.5),
    params:
        samples=SAMPLES,
        types=TYPES,
        code=code("tables"),
    message:
        "Tables 1 and S1: data sets and cell types"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        expand(results("figures/figure_{number}.{suffix}"), number=FIGURES, suffix=["png", "pdf"]),
        expand(results("tables/table_{number}.csv"), number=TABLES),
    message:
        "Figures and tables are drawn"
