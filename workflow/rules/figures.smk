"""The paper's figures and tables."""


localrules:
    figures,


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
        shown=figure_shown,
        types=TYPES,
        palette=config["figures"]["palette"],
        markers=config["figures"].get("markers"),
        genes=config["figures"]["genes"],
        regions=REGIONS,
        cancer=config["figures"]["cancer"],
        patients={sample: row["patient"] for sample, row in SAMPLES.items()},
        by=config["split"]["by"],
        code=lambda w: code(f"figure_{figure_script(w)}", figure_shown(w)["system"] if FIGURES[w.number].kind else None),
    message:
        "Figure {wildcards.number}"
    script:
        "../scripts/figure_{params.script}.py"


rule tables:
    input:
        ingests=expand(results("samples/{sample}/ingest.json"), sample=SAMPLES),
        cells=expand(results("samples/{sample}/cells.parquet"), sample=CELL_SAMPLES),
        spots=expand(results("samples/{sample}/spots.parquet"), sample=OF_UNIT["spots"]),
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
        members=MEMBERS,
        code=code("tables"),
    message:
        "Tables 1 and S1: data sets and cell types"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        expand(results("figures/figure_{number}.{suffix}"), number=DRAWN, suffix=["png", "pdf"]),
        expand(results("tables/table_{number}.csv"), number=TABLES),
    message:
        "Figures and tables are drawn"
