"""Every problem in the heads of the input files, at once, before anything is computed; what the run will need."""


# A checkpoint, since others wait for it by ancient(): of rules behind one that has to run, Snakemake would not ask
# whether they have reasons of their own. After a checkpoint it asks again.
checkpoint preflight:
    input:
        samples=lambda w: [path for sample in SAMPLES for path in input_files(sample).values()],
        reference=REFERENCE,
        objects=lambda w: [path for sample in SAMPLES for path in files_of_objects(sample).values()],
    output:
        record=results("preflight.json"),
    log:
        results("logs/preflight.log"),
    benchmark:
        results("benchmarks/preflight.tsv")
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=sized(2000, samples=0.5, reference=0.5, objects=5),
        runtime=sized(15, samples=0.01, reference=0.01, objects=0.02),
    params:
        samples=lambda w: {sample: sample_settings(sample) for sample in SAMPLES},
        reference=lambda w: REFERENCE,
        checked=lambda w: checked_config(),
        results=lambda w: RESULTS,
        code=code("preflight"),
    message:
        "Looking into every input file"
    script:
        "../scripts/preflight.py"
