"""H&E pixels and micrometres: the affine between them, and a picture to check it by."""


rule register:
    input:
        ingest=R("{sample}/ingest.json"),
    output:
        registration=R("{sample}/registration.json"),
        overlay=report(
            R("{sample}/registration.png"),
            caption="../report/registration.rst",
            category="Registration",
            labels={"sample": "{sample}"},
        ),
    log:
        R("logs/register/{sample}.log"),
    benchmark:
        R("benchmarks/register/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=sized(2000, shapes=20),
        runtime=sized(10, shapes=0.2),
    params:
        store=R("{sample}/sdata.zarr"),
        code=code("register"),
    message:
        "Registering the H&E of {wildcards.sample}"
    script:
        "../scripts/register.py"
