"""A cohort's outcome from the expression that was predicted of its slides."""


rule cohort:
    input:
        table=RUN.cohort,
        expression=results("expression.csv"),
    output:
        table=results("cohort.csv"),
        record=results("cohort.json"),
        png=report(results("figures/cohort.png"), caption="../report/cohort.rst", category="Figures"),
        pdf=results("figures/cohort.pdf"),
        data=directory(results("figures/source_data/cohort")),
    log:
        results("logs/cohort.log"),
    benchmark:
        results("benchmarks/cohort.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, expression=20),
        runtime=from_input_size(60),
    params:
        samples=SLIDES,
        settings=config["cohort"],
        code=code("cohort"),
    message:
        "Telling outcome from expression"
    script:
        "../scripts/cohort.py"
