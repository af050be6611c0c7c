"""Public data: files and the files of bundles, fetched into one folder where a rule needs them."""

FETCHED = PATHS.made["{fetched}"]
FETCH_FILES, FETCH_BUNDLES = fetch.sources(config["fetch"])
FETCH_FILES = fetch.targets(FETCH_FILES, FETCH_BUNDLES)
HUB_ENCODERS = fetch.hub_encoders(config["encoders"])


# Only addresses are parameters: a checksum that is added later, or a changed module, fetches nothing again.
rule fetch_file:
    output:
        file=f"{FETCHED}/{{fetched}}",
    log:
        R("logs/fetch/{fetched}.log"),
    benchmark:
        R("benchmarks/fetch/{fetched}.tsv")
    wildcard_constraints:
        fetched=any_of(FETCH_FILES),
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=sized(500),
        runtime=sized(720),
    params:
        url=lambda w: FETCH_FILES[w.fetched].url,
        folder=FETCHED,
        name=lambda w: w.fetched,
    message:
        "Fetching {wildcards.fetched}"
    script:
        "../scripts/fetch.py"


rule fetch_bundle:
    output:
        files=[f"{FETCHED}/{{bundle}}/{name}" for name in places.BUNDLE_FILES],
    log:
        R("logs/fetch/{bundle}.log"),
    benchmark:
        R("benchmarks/fetch/{bundle}.tsv")
    wildcard_constraints:
        bundle=any_of(FETCH_BUNDLES),
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=sized(500),
        runtime=sized(720),
    params:
        url=lambda w: FETCH_BUNDLES[w.bundle].outs.url,
        folder=FETCHED,
        name=lambda w: w.bundle,
    message:
        "Fetching the bundle {wildcards.bundle}"
    script:
        "../scripts/fetch.py"


rule fetch_weights:
    output:
        record=R("embeddings/{encoder}/weights.json"),
    log:
        R("logs/fetch/weights_{encoder}.log"),
    benchmark:
        R("benchmarks/fetch/weights_{encoder}.tsv")
    wildcard_constraints:
        encoder=any_of(HUB_ENCODERS),
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=sized(2000),
        runtime=sized(240),
    params:
        encoder=encoder_config,
        hub=lambda w: [os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE")],
    message:
        "Fetching the weights of {wildcards.encoder} into the hub's cache"
    script:
        "../scripts/fetch_weights.py"


rule fetch:
    input:
        files=[f"{FETCHED}/{name}" for name in FETCH_FILES],
        bundles=[f"{FETCHED}/{bundle}/{name}" for bundle in FETCH_BUNDLES for name in places.BUNDLE_FILES],
        weights=expand(R("embeddings/{encoder}/weights.json"), encoder=HUB_ENCODERS),
    message:
        "Everything is there that the network is needed for"


rule fetch_plan:
    output:
        plan=R("fetch_plan.json"),
    log:
        R("logs/fetch_plan.log"),
    benchmark:
        R("benchmarks/fetch_plan.tsv")
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=sized(1000),
        runtime=sized(30),
    params:
        folder=FETCHED,
        results=lambda w: RESULTS,
        samples=SAMPLES,
    message:
        "Asking what fetching and the run after it will need"
    script:
        "../scripts/fetch_plan.py"
