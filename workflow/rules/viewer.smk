"""H&E with its cells as pages that open by double click; a list of all samples."""

VIEWER = [results("viewer/index.html")] if config["viewer"]["enabled"] and CELL_SAMPLES else []
# What pages are made of, beside the code.
PARTS = sorted(path for part in ("page", "vendor") for path in Path(LIBRARY, "shest/view", part).iterdir())


localrules:
    viewer_index,


rule viewer:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        cells=results("samples/{sample}/cells.parquet"),
        outlines=results("samples/{sample}/outlines.parquet"),
        registration=results("samples/{sample}/registration.json"),
        annotation=annotation_where_there,
        predictions=expand(results(f"predictions/{{system}}/{PROTOCOL_SHOWN}/{{{{sample}}}}.cells.h5ad"), system=VIEWED),
        embeddings=embeddings_viewed,
    output:
        page=results("viewer/{sample}/index.html"),
        summary=results("viewer/{sample}/viewer.json"),
    log:
        results("logs/viewer/{sample}.log"),
    benchmark:
        results("benchmarks/viewer/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, outlines=20, cells=30, embeddings=30, tables=2),
        runtime=from_input_size(15, images=0.02, outlines=0.2, predictions=0.02, tables=0.05),
    params:
        systems=VIEWED,
        protocol=PROTOCOL_SHOWN,
        max_mpp=config["viewer"]["max_mpp"],
        genes=config["viewer"]["genes"],
        window_um=config["tiles"]["window_um"],
        types=TYPES,
        palette=config["figures"]["palette"],
        page=[sha256(path) for path in PARTS],
        code=code("viewer"),
    message:
        "Writing the viewer of {wildcards.sample}"
    script:
        "../scripts/viewer.py"


rule viewer_index:
    input:
        pages=expand(results("viewer/{sample}/index.html"), sample=CELL_SAMPLES),
        summaries=expand(results("viewer/{sample}/viewer.json"), sample=CELL_SAMPLES),
        scores=evaluations(units=["cells"]),
    output:
        page=results("viewer/index.html"),
    log:
        results("logs/viewer/index.log"),
    benchmark:
        results("benchmarks/viewer/index.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(1000),
        runtime=from_input_size(5),
    params:
        page=[sha256(path) for path in PARTS],
        code=code("viewer_index"),
    message:
        "Writing the list of viewers"
    script:
        "../scripts/viewer_index.py"
