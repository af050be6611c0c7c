"""The paper's figures and tables, each with the data it shows."""


rule figure_2:
    input:
        **shown([TRAINING] if TRAINING else [], "cells", "annotations", "refinements", "tiles"),
    output:
        **figure("2"),
    log:
        results("logs/figures/figure_2.log"),
    benchmark:
        results("benchmarks/figures/figure_2.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(3000, cells=30, annotations=30, refinements=30, tiles=60),
        runtime=sized(15, cells=0.5, tiles=1),
    params:
        **drawn([TRAINING] if TRAINING else [], "contact"),
        protocol=SHOWN["protocol"],
    message:
        "Figure 2: nuclei, tiles, and the cells before and after refinement"
    script:
        "../scripts/figure_2.py"


rule figure_4:
    input:
        **shown(with_role("train"), "scores", "genes", "markers", "scored", "predictions", "registrations"),
        every=[
            results(f"evaluation/{SHOWN['encoder']}/{protocol}/{sample}.json")
            for sample in with_role("train")
            for protocol in config["protocols"]
        ],
    output:
        **figure("4"),
    log:
        results("logs/figures/figure_4.log"),
    benchmark:
        results("benchmarks/figures/figure_4.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(3000, predictions=3, scored=30, genes=30),
        runtime=sized(15, predictions=0.05, genes=1),
    params:
        **drawn(with_role("train"), "shown", "markers"),
    message:
        "Figure 4: internal test"
    script:
        "../scripts/figure_4.py"


rule figure_5:
    input:
        **shown(EXTERNAL[:1], "scores", "scored", "embeddings", "registrations"),
    output:
        **figure("5"),
    log:
        results("logs/figures/figure_5.log"),
    benchmark:
        results("benchmarks/figures/figure_5.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(4000, embeddings=2500, scored=30),
        runtime=sized(20, embeddings=60),
    params:
        **drawn(EXTERNAL[:1], "cache", "metrics", "refine"),
    message:
        "Figure 5: types of an external sample"
    script:
        "../scripts/figure_5.py"


use rule figure_5 as figure_S1 with:
    input:
        **shown(EXTERNAL[1:], "scores", "scored", "embeddings", "registrations"),
    output:
        **figure("S1"),
    log:
        results("logs/figures/figure_S1.log"),
    benchmark:
        results("benchmarks/figures/figure_S1.tsv")
    params:
        **drawn(EXTERNAL[1:], "cache", "metrics", "refine"),
    message:
        "Figure S1: types of the second external sample"


rule figure_6:
    input:
        **shown(EXTERNAL, "predictions", "annotations", "registrations"),
    output:
        **figure("6"),
    log:
        results("logs/figures/figure_6.log"),
    benchmark:
        results("benchmarks/figures/figure_6.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(3000, predictions=3, annotations=30),
        runtime=sized(15, predictions=0.05),
    params:
        **drawn(EXTERNAL, "store"),
    message:
        "Figure 6: annotated and predicted maps beside the H&E"
    script:
        "../scripts/figure_6.py"


rule figure_7:
    input:
        **shown(EXTERNAL[:1], "genes", "markers", "scored", "predictions", "registrations"),
    output:
        **figure("7"),
    log:
        results("logs/figures/figure_7.log"),
    benchmark:
        results("benchmarks/figures/figure_7.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(3000, predictions=3, scored=30, genes=30),
        runtime=sized(15, predictions=0.05, genes=1),
    params:
        **drawn(EXTERNAL[:1], "shown", "markers"),
        markers=config["figures"].get("markers"),
    message:
        "Figure 7: expression of an external sample"
    script:
        "../scripts/figure_7.py"


use rule figure_7 as figure_S3 with:
    input:
        **shown(EXTERNAL[1:], "genes", "markers", "scored", "predictions", "registrations"),
    output:
        **figure("S3"),
    log:
        results("logs/figures/figure_S3.log"),
    benchmark:
        results("benchmarks/figures/figure_S3.tsv")
    params:
        **drawn(EXTERNAL[1:], "shown", "markers"),
        markers=config["figures"].get("markers"),
    message:
        "Figure S3: expression of the second external sample"


rule figure_8:
    input:
        **shown(EXTERNAL[:1], "scores", "genes", "markers"),
    output:
        **figure("8"),
    log:
        results("logs/figures/figure_8.log"),
    benchmark:
        results("benchmarks/figures/figure_8.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(2000, genes=30),
        runtime=sized(10, genes=1),
    params:
        **drawn(EXTERNAL[:1], "markers"),
    message:
        "Figure 8: Moran's I of an external sample"
    script:
        "../scripts/figure_8.py"


use rule figure_8 as figure_S4 with:
    input:
        **shown(EXTERNAL[1:], "scores", "genes", "markers"),
    output:
        **figure("S4"),
    log:
        results("logs/figures/figure_S4.log"),
    benchmark:
        results("benchmarks/figures/figure_S4.tsv")
    params:
        **drawn(EXTERNAL[1:], "markers"),
    message:
        "Figure S4: Moran's I of the second external sample"


rule figure_S2:
    input:
        **shown(EXTERNAL[:1], "scored", "tiles"),
    output:
        **figure("S2"),
    log:
        results("logs/figures/figure_S2.log"),
    benchmark:
        results("benchmarks/figures/figure_S2.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(2000, tiles=60, scored=30),
        runtime=sized(10, tiles=1),
    params:
        **drawn(EXTERNAL[:1], "contact"),
    message:
        "Figure S2: tiles of cells that were told right and that were confused"
    script:
        "../scripts/figure_S2.py"


rule tables:
    input:
        **shown(list(SAMPLES), "ingests", "cells", "registrations"),
        annotations=shown(LABELLED, "annotations")["annotations"],
    output:
        datasets=results("tables/table_1.csv"),
        subtypes=results("tables/table_S1.csv"),
    log:
        results("logs/figures/tables.log"),
    benchmark:
        results("benchmarks/figures/tables.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=sized(1500, cells=30, annotations=30),
        runtime=sized(10, cells=0.5),
    params:
        samples=SAMPLES,
        types=TYPES,
        code=code("tables"),
    message:
        "Tables 1 and S1: data sets and cell types"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        expand(results("figures/figure_{number}.{kind}"), number=FIGURES, kind=["png", "pdf"]),
        expand(results("tables/table_{number}.csv"), number=TABLES),
    message:
        "Figures and tables are drawn"
