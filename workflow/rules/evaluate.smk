"""Scores of the samples that have labels, the same for every system."""


rule evaluate:
    input:
        predictions=results("predictions/{system}/{protocol}/{sample}.{unit}.h5ad"),
        models=models_of("model.safetensors"),
        records=models_of("model.json"),
        ingest=results("samples/{sample}/ingest.json"),
        store=lambda w: store_of(w.unit, w.sample),
        annotation=annotation_of_scored,
        cells=unit_table,
        splits=splits_of,
        refinement=refinement_of_scored,
        registration=results("samples/{sample}/registration.json"),
        comparators=lambda w: comparator_files(w) if w.unit == "cells" else [],
        truth=truth_of,
        transcripts=TRANSCRIPTS,
        check=lambda w: comparator_check(w) if w.unit == "cells" else [],
    output:
        scores=results("evaluation/{system}/{protocol}/{sample}.{unit}.json"),
        genes=results("evaluation/{system}/{protocol}/{sample}.{unit}.genes.csv"),
        scored=results("evaluation/{system}/{protocol}/{sample}.{unit}.scored.parquet"),
    log:
        results("logs/evaluate/{system}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/evaluate/{system}/{protocol}/{sample}.{unit}.tsv")
    conda:
        env("analysis")
    threads: 2
    resources:
        mem_mb=from_input_size(4000, tables=100, cells=20, annotation=20, comparators=5, predictions=1),
        runtime=from_input_size(20, tables=2, cells=2),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        types=list(TYPES),
        block_um=config["split"]["block_um"],
        comparators=lambda w: comparators_of(w.sample, False) if w.unit == "cells" else {},
        code=code("evaluate"),
    message:
        "Scoring {wildcards.sample} ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/evaluate.py"


rule evaluate_outlines:
    input:
        models=models_of("model.safetensors"),
        records=models_of("model.json"),
        splits=splits_of,
        store=results("samples/{sample}/sdata.zarr"),
        outlines=results("samples/{sample}/outlines.parquet"),
        annotation=results("samples/{sample}/annotation.parquet"),
        registration=results("samples/{sample}/registration.json"),
    output:
        scores=results("evaluation/{system}/{protocol}/{sample}.outlines.json"),
    log:
        results("logs/evaluate_outlines/{system}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/evaluate_outlines/{system}/{protocol}/{sample}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=from_input_size(3000, per_thread=500, outlines=50),
        runtime=from_input_size(20, outlines=5),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        folds=folds_of,
        block_px=config["segment"]["block_px"],
        code=lambda w: code("evaluate_outlines", w.system),
    message:
        "Scoring the nuclei that {wildcards.system} finds in {wildcards.sample} ({wildcards.protocol})"
    script:
        "../scripts/evaluate_outlines.py"


rule adopt:
    input:
        file=lambda w: COMPARATORS[w.sample][w.program]["path"],
        cells=results(f"predictions/{next(iter(BY_UNIT['cells'] or SYSTEMS))}/{{protocol}}/{{sample}}.{{unit}}.h5ad"),
        models=lambda w: models("model.json", protocols=[w.protocol]),
        registration=results("samples/{sample}/registration.json"),
        check=results("samples/{sample}/check_comparators.json"),
    output:
        predictions=results("programs/{program}/{protocol}/{sample}.{unit}.h5ad"),
        record=results("programs/{program}/{protocol}/{sample}.{unit}.json"),
    log:
        results("logs/adopt/{program}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/adopt/{program}/{protocol}/{sample}.{unit}.tsv")
    wildcard_constraints:
        program=any_of(PROGRAMS),
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, file=2, cells=1),
        runtime=from_input_size(10, file=0.1),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        types=list(TYPES),
        entry=lambda w: COMPARATORS[w.sample][w.program],
        code=code("adopt"),
    message:
        "Reading what {wildcards.program} predicts for {wildcards.sample} ({wildcards.protocol})"
    script:
        "../scripts/adopt.py"


use rule evaluate as evaluate_shared with:
    input:
        predictions=shared_predictions,
        models=of_program(".h5ad", "model.safetensors"),
        records=of_program(".json", "model.json"),
        ingest=results("samples/{sample}/ingest.json"),
        store=lambda w: store_of(w.unit, w.sample),
        annotation=annotation_of_scored,
        cells=unit_table,
        splits=splits_of,
        refinement=refinement_of_scored,
        registration=results("samples/{sample}/registration.json"),
        comparators=[],
        truth=truth_of,
        transcripts=TRANSCRIPTS,
        shared=predictions_beside,
    output:
        scores=results("evaluation/{system}/{protocol}/{sample}.{unit}.shared.json"),
        genes=results("evaluation/{system}/{protocol}/{sample}.{unit}.shared.genes.csv"),
        scored=results("evaluation/{system}/{protocol}/{sample}.{unit}.shared.scored.parquet"),
    log:
        results("logs/evaluate_shared/{system}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/evaluate_shared/{system}/{protocol}/{sample}.{unit}.tsv")
    wildcard_constraints:
        system=any_of([*SYSTEMS, *PROGRAMS]),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        types=list(TYPES),
        block_um=config["split"]["block_um"],
        comparators={},
        code=code("evaluate"),
    message:
        "Scoring {wildcards.sample} on what all share ({wildcards.system}, {wildcards.protocol})"


rule markers:
    input:
        scored=results("evaluation/{system}/{protocol}/{sample}.{unit}.scored.parquet"),
        genes=results("evaluation/{system}/{protocol}/{sample}.{unit}.genes.csv"),
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
    output:
        markers=results("evaluation/{system}/{protocol}/{sample}.{unit}.markers.csv"),
    log:
        results("logs/markers/{system}/{protocol}/{sample}.{unit}.log"),
    benchmark:
        results("benchmarks/markers/{system}/{protocol}/{sample}.{unit}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(3000, tables=60),
        runtime=from_input_size(15, tables=1),
    params:
        code=code("markers"),
    message:
        "Scoring marker genes of {wildcards.sample}"
    script:
        "../scripts/markers.py"


rule model_card:
    input:
        record=results("models/{system}/{protocol}/{fold}/model.json"),
        scores=lambda w: evaluations(systems=[w.system]),
    output:
        card=results("models/{system}/{protocol}/{fold}/card.md"),
    log:
        results("logs/model_card/{system}/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/model_card/{system}/{protocol}/{fold}.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=from_input_size(1000),
        runtime=from_input_size(5),
    params:
        code=code("model_card"),
    message:
        "Writing the model card ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/model_card.py"


rule compare:
    input:
        scores=lambda w: evaluations(protocols=[w.protocol]) + shared_evaluations(w.protocol),
        models=lambda w: models("model.safetensors", protocols=[w.protocol]),
    output:
        table=results("comparison/{protocol}.csv"),
        record=results("comparison/{protocol}.json"),
        costs=results("comparison/{protocol}.costs.csv"),
    log:
        results("logs/compare/{protocol}.log"),
    benchmark:
        results("benchmarks/compare/{protocol}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(1500),
        runtime=from_input_size(5),
    params:
        systems=list(SYSTEMS),
        benchmarks=results("benchmarks"),
        code=code("compare"),
    message:
        "Comparing the systems ({wildcards.protocol})"
    script:
        "../scripts/compare.py"


rule comparison_figure:
    input:
        record=results("comparison/{protocol}.json"),
        costs=results("comparison/{protocol}.costs.csv"),
    output:
        png=report(results("comparison/{protocol}.png"), caption="../report/comparison.rst", category="Figures"),
        pdf=results("comparison/{protocol}.pdf"),
        data=directory(results("comparison/{protocol}.source_data")),
        costs_png=results("comparison/{protocol}.costs.png"),
        costs_pdf=results("comparison/{protocol}.costs.pdf"),
        costs_data=directory(results("comparison/{protocol}.costs.source_data")),
    log:
        results("logs/comparison_figure/{protocol}.log"),
    benchmark:
        results("benchmarks/comparison_figure/{protocol}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(1500),
        runtime=from_input_size(5),
    params:
        code=code("comparison_figure"),
    message:
        "Drawing the comparison of the systems ({wildcards.protocol})"
    script:
        "../scripts/comparison_figure.py"
