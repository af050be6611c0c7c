"""Every problem in the heads of the input files, at once, before anything is computed; what the run will need."""

# What the checks read of the config: a change elsewhere does not repeat them.
CHECKED = ("reference", "cell_types", "annotate", "tiles", "train", "split", "protocols", "resources")


def input_files(sample):
    """Paths of the files of a sample that are looked into, by what they are."""
    row = SAMPLES[sample]
    tables = {column: row[column] for column in ("annotation", "nuclei") if row[column]}
    if row["platform"] == "slide":
        return {"path": row["path"]} | tables
    named = {
        "he_image": one_file(sample, "he_image", places.HE_IMAGE),
        "alignment": one_file(sample, "alignment", places.ALIGNMENT),
    }
    return named | {name: f"{row['path']}/{name}" for name in places.BUNDLE_FILES} | tables


def sample_settings(sample):
    """Row of the sheet with the paths of its files."""
    return SAMPLES[sample] | {k: v for k, v in input_files(sample).items() if k in ("he_image", "alignment")}


def checked_config():
    """The checked part of the config, with the places of local weights."""
    return {key: config[key] for key in CHECKED} | {"encoders": [resolved_encoder(e) for e in config["encoders"]]}


rule preflight:
    input:
        samples=lambda w: [path for sample in SAMPLES for path in input_files(sample).values()],
        reference=REFERENCE,
    output:
        record=R("preflight.json"),
    log:
        R("logs/preflight.log"),
    benchmark:
        R("benchmarks/preflight.tsv")
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=4000,
    params:
        samples=lambda w: {sample: sample_settings(sample) for sample in SAMPLES},
        reference=REFERENCE,
        config=lambda w: checked_config(),
        results=RESULTS,
        code=code("preflight"),
    message:
        "Looking into every input file"
    script:
        "../scripts/preflight.py"
