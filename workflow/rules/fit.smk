"""Each system is fitted on the training cells of each fold; further views are encoded for those that ask for them."""


rule plan_orientations:
    input:
        split=results("splits/{protocol}/{fold}.parquet"),
        refinement=refinements_of_training,
        record=encoder_record,
    output:
        plan=results("models/{system}/{protocol}/{fold}/views.parquet"),
    log:
        results("logs/plan_orientations/{system}/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/plan_orientations/{system}/{protocol}/{fold}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, split=30, refinement=30),
        runtime=from_input_size(10, split=0.5),
    params:
        samples=TRAIN_SAMPLES,
        min_cells=config["train"]["min_cells"],
        views=lambda w: SYSTEMS[w.system]["settings"]["views"],
        seed=lambda w: SYSTEMS[w.system]["settings"]["seed"],
        code=code("plan_orientations"),
    message:
        "Planning the views of training cells ({wildcards.system}, {wildcards.protocol}, fold {wildcards.fold})"
    script:
        "../scripts/plan_orientations.py"


rule embed_views:
    input:
        record=encoder_record,
        tiles=results("samples/{sample}/tiles/tiles.json"),
        plan=results("models/{system}/{protocol}/{fold}/views.parquet"),
    output:
        index=results("models/{system}/{protocol}/{fold}/views/{sample}.json"),
    log:
        results("logs/embed_views/{system}/{protocol}/{fold}/{sample}.log"),
    benchmark:
        results("benchmarks/embed_views/{system}/{protocol}/{fold}/{sample}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=lambda w, attempt, threads: encoder_mb_of(encoder_of(w.system), attempt, threads),
        runtime=further_views_minutes,
    params:
        cache=CACHE,
    message:
        "Embedding further views of {wildcards.sample} ({wildcards.system}, {wildcards.protocol}, {wildcards.fold})"
    script:
        "../scripts/embed_views.py"


rule fit:
    input:
        split=results("splits/{protocol}/{fold}.parquet"),
        refinement=refinements_of_training,
        ingest=ingests_of_training,
        stores=stores_of_training,
        source=sources_of_training,
        views=views_of_training,
    output:
        model=results("models/{system}/{protocol}/{fold}/model.safetensors"),
        record=results("models/{system}/{protocol}/{fold}/model.json"),
        history=results("models/{system}/{protocol}/{fold}/training.csv"),
    log:
        results("logs/fit/{system}/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/fit/{system}/{protocol}/{fold}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=from_input_size(6000, tables=60, source=500, views=500),
        runtime=fit_minutes,
    params:
        samples=training_samples,
        system=lambda w: {key: SYSTEMS[w.system][key] for key in ("kind", "encoder", "unit")},
        settings=lambda w: SYSTEMS[w.system]["settings"],
        reads=lambda w: reads(w.system),
        min_cells=config["train"]["min_cells"],
        split=config["split"],
        code=lambda w: code("fit", w.system),
    message:
        "Fitting {wildcards.system} ({wildcards.protocol}, fold {wildcards.fold})"
    script:
        "../scripts/fit.py"


rule stain_picture:
    input:
        model=results("models/{system}/{protocol}/{fold}/model.safetensors"),
        record=results("models/{system}/{protocol}/{fold}/model.json"),
        patches=lambda w: [
            path for sample in OF_UNIT[SYSTEMS[w.system]["unit"]] for path in source_files(w.system, sample)
        ],
    output:
        picture=report(
            results("models/{system}/{protocol}/{fold}/stains.png"),
            caption="../report/stains.rst",
            category="Training",
            labels={"system": "{system}", "protocol": "{protocol}", "fold": "{fold}"},
        ),
    log:
        results("logs/stain_picture/{system}/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/stain_picture/{system}/{protocol}/{fold}.tsv")
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(3000, model=3),
        runtime=from_input_size(10),
    params:
        samples=lambda w: OF_UNIT[SYSTEMS[w.system]["unit"]],
        code=lambda w: code("stain_picture", w.system),
    message:
        "Drawing patches before and after their colours are changed ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/stain_picture.py"


rule training_plot:
    input:
        history=results("models/{system}/{protocol}/{fold}/training.csv"),
    output:
        picture=report(
            results("models/{system}/{protocol}/{fold}/training.png"),
            caption="../report/training.rst",
            category="Training",
            labels={"system": "{system}", "protocol": "{protocol}", "fold": "{fold}"},
        ),
    log:
        results("logs/training_plot/{system}/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/training_plot/{system}/{protocol}/{fold}.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=from_input_size(1000),
        runtime=from_input_size(10),
    params:
        code=code("training_plot"),
    message:
        "Drawing how {wildcards.system} was fitted ({wildcards.protocol}, fold {wildcards.fold})"
    script:
        "../scripts/training_plot.py"
