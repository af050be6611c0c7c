"""A bundle, or a slide, becomes a SpatialData store."""


rule ingest:
    input:
        bundle=bundle_files,
        he_image=he_image,
        alignment=alignment,
        check=results("samples/{sample}/check.json"),
        agreement=results("samples/{sample}/check_alignment.json"),
    output:
        done=results("samples/{sample}/ingest.json"),
        store=directory(results("samples/{sample}/sdata.zarr")),
    log:
        results("logs/ingest/{sample}.log"),
    benchmark:
        results("benchmarks/ingest/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(on_platform("xenium")),
    conda:
        env("ingest")
    threads: 2
    resources:
        mem_mb=from_input_size(2000, bundle=4, he_image=1),
        runtime=from_input_size(15, bundle=0.05, he_image=0.05),
    params:
        bundle=lambda w: SAMPLES[w.sample]["path"],
        code=code("ingest"),
    message:
        "Reading the bundle of {wildcards.sample}"
    script:
        "../scripts/ingest.py"


rule ingest_spots:
    input:
        files=lambda w: [path for path in sample_files(w) if path != he_image(w)],
        he_image=he_image,
        check=results("samples/{sample}/check.json"),
    output:
        done=results("samples/{sample}/ingest.json"),
        store=directory(results("samples/{sample}/sdata.zarr")),
    log:
        results("logs/ingest_spots/{sample}.log"),
    benchmark:
        results("benchmarks/ingest_spots/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(SPOT_SAMPLES),
    conda:
        env("ingest")
    threads: 2
    resources:
        mem_mb=from_input_size(3000, files=20, he_image=20),
        runtime=from_input_size(15, files=0.5, he_image=0.5),
    params:
        row=lambda w: {key: SAMPLES[w.sample][key] for key in ("platform", "path", "alignment", "mpp")},
        code=code("ingest_spots"),
    message:
        "Reading the spots of {wildcards.sample}"
    script:
        "../scripts/ingest_spots.py"


rule ingest_slide:
    input:
        slide=lambda w: SAMPLES[w.sample]["path"],
        nuclei=nuclei_file,
        check=results("samples/{sample}/check.json"),
    output:
        done=results("samples/{sample}/ingest.json"),
        store=directory(results("samples/{sample}/sdata.zarr")),
    log:
        results("logs/ingest_slide/{sample}.log"),
    benchmark:
        results("benchmarks/ingest_slide/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(on_platform("slide")),
    conda:
        env("ingest")
    threads: 2
    resources:
        mem_mb=from_input_size(2000, nuclei=8, slide=1),
        runtime=from_input_size(15, nuclei=0.05, slide=0.05),
    params:
        mpp=lambda w: SAMPLES[w.sample]["mpp"],
        code=code("ingest_slide"),
    message:
        "Reading the slide {wildcards.sample}"
    script:
        "../scripts/ingest_slide.py"
