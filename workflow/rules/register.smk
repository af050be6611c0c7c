"""H&E pixels and micrometres: the affine between them, and a picture to check it by."""


rule register:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
    output:
        registration=results("samples/{sample}/registration.json"),
        overlay=report(
            results("samples/{sample}/registration.png"),
            caption="../report/registration.rst",
            category="Registration",
            labels={"sample": "{sample}"},
        ),
    log:
        results("logs/register/{sample}.log"),
    benchmark:
        results("benchmarks/register/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, shapes=20),
        runtime=from_input_size(10, shapes=0.2),
    params:
        code=code("register"),
    message:
        "Registering the H&E of {wildcards.sample}"
    script:
        "../scripts/register.py"
