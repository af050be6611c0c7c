"""Each cell's type: what its expression says, confirmed by the pathologist's table where one is given."""

COMPARED_LABELS = []
if config["annotate"]["compare"]:
    COMPARED_LABELS = expand(results("samples/{sample}/label_comparison.csv"), sample=LABELLED)


rule annotate:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        reference=[] if BY_MARKERS else REFERENCE,
        markers=MARKER_FILES if BY_MARKERS else [],
        table=annotation_table,
        checks=label_checks,
    output:
        annotation=results("samples/{sample}/annotation.parquet"),
        summary=results("samples/{sample}/annotation.json"),
    log:
        results("logs/annotate/{sample}.log"),
    benchmark:
        results("benchmarks/annotate/{sample}.tsv")
    conda:
        env("annotate")
    threads: 2
    resources:
        mem_mb=from_input_size(3000, reference=6, markers=50, table=20, tables=40),
        runtime=from_input_size(15, reference=0.02, tables=2 if BY_MARKERS else 0.2),
    params:
        reference={} if BY_MARKERS else config.get("reference", {}),
        markers=MARKERS if BY_MARKERS else {},
        organ=lambda w: SAMPLES[w.sample]["organ"] if BY_MARKERS else None,
        types={name: {k: v for k, v in entry.items() if k != "colour"} for name, entry in TYPES.items()},
        members=MEMBERS,
        annotate={key: config["annotate"][key] for key in ("method", "prior", "label")},
        code=code("annotate"),
    message:
        "Annotating the cells of {wildcards.sample}"
    script:
        "../scripts/annotate.py"


rule compare_labels:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        reference=REFERENCE,
        markers=MARKER_FILES,
        table=annotation_table,
        checks=label_checks,
        further=[
            results(f"check/{name}.json") for name, made in (("reference", REFERENCE), ("markers", MARKERS)) if made
        ],
    output:
        table=results("samples/{sample}/label_comparison.csv"),
        confusion=results("samples/{sample}/label_confusion.csv"),
    log:
        results("logs/compare_labels/{sample}.log"),
    benchmark:
        results("benchmarks/compare_labels/{sample}.tsv")
    conda:
        env("annotate")
    threads: 2
    resources:
        mem_mb=from_input_size(3000, reference=6, markers=50, table=20, tables=40),
        runtime=from_input_size(30, reference=0.1, tables=6),
    params:
        reference=config.get("reference", {}),
        markers=MARKERS or {},
        organ=lambda w: SAMPLES[w.sample]["organ"],
        types={name: {k: v for k, v in entry.items() if k != "colour"} for name, entry in TYPES.items()},
        annotate={key: config["annotate"][key] for key in ("method", "prior", "compare")},
        code=code("compare_labels"),
    message:
        "Comparing ways to label {wildcards.sample}"
    script:
        "../scripts/compare_labels.py"


rule labels:
    input:
        expand(results("samples/{sample}/annotation.json"), sample=LABELLED),
        COMPARED_LABELS,
    message:
        "Every labelled sample has its labels"
