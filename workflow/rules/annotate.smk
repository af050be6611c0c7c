"""Each cell's type: TACCO's label, confirmed by the pathologist's table where one is given."""


rule annotate:
    input:
        ingest=R("{sample}/ingest.json"),
        reference=REFERENCE,
        table=annotation_table,
        preflight=ancient(R("preflight.json")),
    output:
        annotation=R("{sample}/annotation.parquet"),
    log:
        R("logs/annotate/{sample}.log"),
    benchmark:
        R("benchmarks/annotate/{sample}.tsv")
    conda:
        env("annotate")
    threads: 2
    resources:
        mem_mb=size_mb(6, least=4000),
    params:
        store=R("{sample}/sdata.zarr"),
        reference=config["reference"],
        subtypes={name: entry["subtypes"] for name, entry in TYPES.items()},
        prior=config["annotate"]["prior"],
        code=code("annotate"),
    message:
        "Annotating the cells of {wildcards.sample}"
    script:
        "../scripts/annotate.py"
