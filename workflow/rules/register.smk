"""H&E pixels and micrometres: the affine between them, given or found, and a picture to check it by."""

# Bundles whose alignment is found by their nuclei.
ALIGNED = [name for name in on_platform("xenium") if SAMPLES[name]["aligned"]]


rule align:
    input:
        bundle=bundle_files,
        he_image=he_image,
    output:
        alignment=results("samples/{sample}/he_imagealignment.csv"),
        nuclei=results("samples/{sample}/align.parquet"),
        facts=results("samples/{sample}/align.json"),
    log:
        results("logs/align/{sample}.log"),
    benchmark:
        results("benchmarks/align/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(ALIGNED),
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=from_input_size(2500, per_thread=500),
        runtime=from_input_size(20, he_image=0.1),
    params:
        bundle=lambda w: SAMPLES[w.sample]["path"],
        mpp=lambda w: SAMPLES[w.sample]["mpp"],
        block_px=config["segment"]["block_px"],
        stain=config["segment"]["stain"],
        insist=config["register"]["insist"],
        code=code("align"),
    message:
        "Finding where the H&E of {wildcards.sample} lies"
    script:
        "../scripts/align.py"


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
    threads: THREADS
    resources:
        mem_mb=from_input_size(2500, shapes=20),
        runtime=from_input_size(15, shapes=0.2),
    params:
        platform=lambda w: SAMPLES[w.sample]["platform"],
        source=lambda w: "estimated" if w.sample in ALIGNED else "given",
        code=code("register"),
    message:
        "Registering the H&E of {wildcards.sample}"
    script:
        "../scripts/register.py"
