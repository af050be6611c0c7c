"""Type and expression of every kept unit, by every system; files of them for other programs."""


rule predict:
    input:
        models=models_of("model.safetensors"),
        records=models_of("model.json"),
        splits=splits_of,
        cells=unit_table,
        registration=results("samples/{sample}/registration.json"),
        source=lambda w: source_files(w.system, w.sample),
        probe=[results("check/probe.json")] if MODEL else [],
    output:
        predictions=results("predictions/{system}/{protocol}/{sample}.{unit}.h5ad"),
    log:
        results("logs/predict/{system}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/predict/{system}/{protocol}/{sample}.{unit}.tsv")
    conda:
        env("torch")
    threads: 2
    resources:
        mem_mb=from_input_size(3000, models=3, cells=20, source=400),
        runtime=from_input_size(15, models=0.02, source=10),
    params:
        probed=bool(MODEL),
        role=lambda w: SAMPLES[w.sample]["role"],
        folds=folds_of,
        reads=lambda w: reads(w.system),
        genes=config["predict"]["genes"],
        code=lambda w: code("predict", w.system),
    message:
        "Predicting {wildcards.sample} ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/predict.py"


# The spots of a system of cells are sums over its cells.
ruleorder: sum_spots > predict


rule sum_spots:
    input:
        predictions=results("predictions/{system}/{protocol}/{sample}.cells.h5ad"),
        members=results("samples/{sample}/spot_cells.parquet"),
        spots=results("samples/{sample}/spots.parquet"),
        registration=results("samples/{sample}/registration.json"),
        splits=splits_of,
    output:
        predictions=results("predictions/{system}/{protocol}/{sample}.spots.h5ad"),
    log:
        results("logs/sum_spots/{system}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/sum_spots/{system}/{protocol}/{sample}.tsv")
    wildcard_constraints:
        system=any_of(BY_UNIT["cells"]),
        sample=any_of(PSEUDO_SAMPLES),
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(3000, predictions=3),
        runtime=from_input_size(15, predictions=0.02),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        folds=folds_of,
        code=code("sum_spots"),
    message:
        "Summing the cells of each spot of {wildcards.sample} ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/sum_spots.py"


rule export:
    input:
        predictions=results("predictions/{system}/{protocol}/{sample}.{unit}.h5ad"),
        outlines=results("samples/{sample}/outlines.parquet"),
    output:
        qupath=results("predictions/{system}/{protocol}/{sample}.{unit}.geojson"),
        explorer=results("predictions/{system}/{protocol}/{sample}.{unit}.explorer.csv"),
    log:
        results("logs/export/{system}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/export/{system}/{protocol}/{sample}.{unit}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, outlines=10, predictions=0.5),
        runtime=from_input_size(10, outlines=0.2),
    params:
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("export"),
    message:
        "Writing {wildcards.sample} for QuPath and Xenium Explorer ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/export.py"
