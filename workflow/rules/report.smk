"""One HTML file that says what was made of what, how good it is, and what to doubt."""


rule report:
    input:
        scores=evaluations(),
        comparisons=expand(results("comparison/{protocol}.json"), protocol=config["protocols"]),
        costs=expand(results("comparison/{protocol}.costs.csv"), protocol=config["protocols"]),
        comparison_figures=expand(
            results("comparison/{protocol}{kind}.png"), protocol=config["protocols"], kind=["", ".costs"]
        ),
        labels=expand(results("samples/{sample}/annotation.json"), sample=LABELLED),
        label_comparisons=COMPARED_LABELS,
        ablations=expand(results("refinement/{encoder}/ablation.json"), encoder=ENCODERS[:1] if TRAIN_SAMPLES else []),
        models=models("model.json"),
        cards=models("card.md"),
        curves=models("training.png", LOOKING),
        stains=models("stains.png", STAINED),
        refinements=expand(
            results("refinement/{encoder}/{protocol}/{sample}.png"),
            encoder=sorted({encoder_of(system) for system in BY_UNIT["cells"]}),
            protocol=config["protocols"],
            sample=TRAIN_SAMPLES,
        ),
        exports=expand(
            results("predictions/{system}/{protocol}/{sample}.cells.{suffix}"),
            system=CELLS_LOOKING,
            protocol=config["protocols"],
            sample=CELL_SAMPLES,
            suffix=["geojson", "explorer.csv"],
        ),
        cells=expand(results("samples/{sample}/cells.parquet"), sample=CELL_SAMPLES),
        spots=expand(results("samples/{sample}/spots.parquet"), sample=OF_UNIT["spots"]),
        annotations=expand(results("samples/{sample}/annotation.parquet"), sample=LABELLED),
        registrations=expand(results("samples/{sample}/registration.json"), sample=SAMPLES),
        overlays=expand(results("samples/{sample}/registration.png"), sample=SAMPLES),
        segmentations=expand(results("samples/{sample}/segment.png"), sample=SEGMENTED),
        outlines=OUTLINE_SCORES,
        tiles=expand(results("samples/{sample}/tiles/tiles.png"), sample=CELL_SAMPLES),
        viewer=VIEWER,
        measured=expand(results(RESULT_PATHS["genes"]), sample=EXTERNAL, **SHOWN),
        figures=expand(results("figures/figure_{number}.png"), number=DRAWN),
        tables=expand(results("tables/table_{number}.csv"), number=TABLES),
    output:
        html=results("report.html"),
    log:
        results("logs/report.log"),
    benchmark:
        results("benchmarks/report.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, scores=10, figures=3, overlays=3, segmentations=3, tiles=3),
        runtime=from_input_size(10, scores=1),
    params:
        results=lambda w: RESULTS,
        envs=sorted(str(path) for path in Path(workflow.basedir, "envs").glob("*.yaml")),
        config=lambda w: config,
        samples=lambda w: SAMPLES,
        simulated=[sample for sample, row in SAMPLES.items() if row["path"].startswith(SIMULATED)],
        shown=SHOWN,
        viewed=VIEWED,
        figure_samples=FIGURE_SAMPLES,
        code=code("report"),
        template=sha256(Path(workflow.basedir, "workflow/shest/draw/templates/report.html.j2")),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
