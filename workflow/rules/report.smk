"""One HTML file that says what was made of what, how good it is, and what to doubt."""


rule report:
    input:
        scores=evaluations,
        models=expand(results("models/{encoder}/{protocol}/model.json"), encoder=ENCODERS, protocol=config["protocols"]),
        cards=expand(results("models/{encoder}/{protocol}/card.md"), encoder=ENCODERS, protocol=config["protocols"]),
        curves=expand(results("models/{encoder}/{protocol}/training.png"), encoder=ENCODERS, protocol=config["protocols"]),
        refinements=[
            results(f"refinement/{encoder}/{protocol}/{sample}.png")
            for encoder in ENCODERS
            for protocol in config["protocols"]
            for sample in with_role("train")
        ],
        exports=expand(
            results("predictions/{encoder}/{protocol}/{sample}.{kind}"),
            encoder=ENCODERS,
            protocol=config["protocols"],
            sample=SAMPLES,
            kind=["geojson", "explorer.csv"],
        ),
        cells=expand(results("samples/{sample}/cells.parquet"), sample=SAMPLES),
        annotations=expand(results("samples/{sample}/annotation.parquet"), sample=LABELLED),
        registrations=expand(results("samples/{sample}/registration.json"), sample=SAMPLES),
        overlays=expand(results("samples/{sample}/registration.png"), sample=SAMPLES),
        tiles=expand(results("samples/{sample}/tiles/tiles.png"), sample=SAMPLES),
        figures=expand(results("figures/figure_{number}.png"), number=FIGURES),
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
        mem_mb=sized(2000, scores=10, figures=3, overlays=3, tiles=3),
        runtime=sized(10, scores=1),
    params:
        results=lambda w: RESULTS,
        envs=sorted(str(path) for path in Path(workflow.basedir, "envs").glob("*.yaml")),
        config=lambda w: config,
        samples=lambda w: SAMPLES,
        code=code("report"),
        template=sha256(Path(workflow.basedir, "workflow/shest/draw/templates/report.html.j2")),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
