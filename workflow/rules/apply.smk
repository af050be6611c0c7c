"""A package on plain slides: nothing is trained. A slide is one job, whose stages hand over in memory."""


rule probe:
    input:
        package=[packed(name) for name in ("model.safetensors", "model.json", "probe.safetensors", "checksums.txt")],
        encoder=package_encoder,
    output:
        record=results("check/probe.json"),
    log:
        results("logs/probe.log"),
    benchmark:
        results("benchmarks/probe.tsv")
    priority: 100
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=lambda w, attempt, threads: encoder_mb_of(ENCODERS[0], attempt, threads),
        runtime=from_input_size(20),
    params:
        package=lambda w: MODEL,
        insist=config["apply"]["insist"],
        code=lambda w: code("probe", PACKAGE["system"]),
    message:
        "Probing the package"
    script:
        "../scripts/probe.py"


rule apply_slide:
    input:
        slide=lambda w: SAMPLES[w.sample]["path"],
        nuclei=nuclei_file,
        package=[packed(name) for name in ("model.safetensors", "model.json", "probe.safetensors", "checksums.txt")],
        probe=results("check/probe.json"),
        encoder=package_encoder,
    output:
        state=results("slides/{sample}.json"),
    log:
        results("logs/apply_slide/{sample}.log"),
    benchmark:
        results("benchmarks/apply_slide/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(SLIDES),
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=from_input_size(3000, per_thread=BLOCK_MB, nuclei=8, slide=1),
        runtime=from_input_size(30, slide=0.2),
    params:
        package=lambda w: MODEL,
        row=lambda w: {key: SAMPLES[w.sample][key] for key in ("path", "nuclei", "mpp")},
        places=lambda w: PLACES[w.sample],
        segment={key: config["segment"][key] for key in ("stain", "block_px")},
        block_px=config["tiles"]["block_px"],
        genes=config["predict"]["genes"],
        palette=config["figures"]["palette"],
        code=lambda w: code("apply_slide", PACKAGE["system"]),
    message:
        "Predicting the slide {wildcards.sample}"
    script:
        "../scripts/apply_slide.py"


rule slides:
    input:
        states=[results(f"slides/{sample}.json") for sample in SLIDES],
    output:
        slides=results("slides.tsv"),
        composition=results("composition.csv"),
        neighbours=results("neighbours.csv"),
        expression=results("expression.csv"),
    log:
        results("logs/slides.log"),
    benchmark:
        results("benchmarks/slides.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(4000),
        runtime=from_input_size(30, states=1),
    params:
        samples=SLIDES,
        predictions={sample: places["predictions"] for sample, places in PLACES.items()},
        code=code("slides"),
    message:
        "Gathering the slides"
    script:
        "../scripts/slides.py"


rule slide_report:
    input:
        states=[results(f"slides/{sample}.json") for sample in SLIDES],
        slides=results("slides.tsv"),
        composition=results("composition.csv"),
        probe=results("check/probe.json"),
        scores=SCORED,
        cohort=COHORT,
        viewer=VIEWER,
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
        mem_mb=from_input_size(2000, states=1),
        runtime=from_input_size(10),
    params:
        results=lambda w: RESULTS,
        samples=SLIDES,
        viewed=list(SAMPLES),
        record=packed("model.json"),
        card=packed("card.md"),
        pictures={sample: places["picture"] for sample, places in PLACES.items()},
        exports=[places[kind] for places in PLACES.values() for kind in ("qupath", "explorer")],
        config=lambda w: config,
        code=code("slide_report"),
        template=sha256(Path(workflow.basedir, "workflow/shest/draw/templates/report.html.j2")),
    message:
        "Writing the report"
    script:
        "../scripts/slide_report.py"
