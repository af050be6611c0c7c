"""Public data: files and the files of bundles, fetched into one folder where a rule needs them."""

FETCHED = PATHS.made["{fetched}"]
FETCH_FILES, FETCH_BUNDLES = sources.sources(config["fetch"])
FETCH_FILES = sources.targets(FETCH_FILES, FETCH_BUNDLES)
FETCHED_FILES = [f"{FETCHED}/{name}" for name in FETCH_FILES]
FETCHED_FILES += [f"{FETCHED}/{bundle}/{name}" for bundle in FETCH_BUNDLES for name in BUNDLE_FILES]
HUB_ENCODERS = sources.hub_encoders(config["encoders"])


# Only addresses are parameters: a checksum that is added later, or a changed module, fetches nothing again.
rule fetch_file:
    output:
        file=f"{FETCHED}/{{fetched}}",
    log:
        results("logs/fetch/{fetched}.log"),
    benchmark:
        results("benchmarks/fetch/{fetched}.tsv")
    wildcard_constraints:
        fetched=any_of(FETCH_FILES),
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(500),
        runtime=from_input_size(720),
    params:
        url=lambda w: FETCH_FILES[w.fetched].url,
        folder=lambda w: FETCHED,
        name=lambda w: w.fetched,
    message:
        "Fetching {wildcards.fetched}"
    script:
        "../scripts/fetch.py"


rule fetch_bundle:
    output:
        files=[f"{FETCHED}/{{bundle}}/{name}" for name in BUNDLE_FILES],
    log:
        results("logs/fetch/{bundle}.log"),
    benchmark:
        results("benchmarks/fetch/{bundle}.tsv")
    wildcard_constraints:
        bundle=any_of(FETCH_BUNDLES),
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(500),
        runtime=from_input_size(720),
    params:
        url=lambda w: FETCH_BUNDLES[w.bundle].outs.url,
        folder=lambda w: FETCHED,
        name=lambda w: w.bundle,
    message:
        "Fetching the bundle {wildcards.bundle}"
    script:
        "../scripts/fetch.py"


rule fetch_weights:
    output:
        record=results("embeddings/{encoder}/weights.json"),
    log:
        results("logs/fetch/weights_{encoder}.log"),
    benchmark:
        results("benchmarks/fetch/weights_{encoder}.tsv")
    wildcard_constraints:
        encoder=any_of(HUB_ENCODERS),
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(2000),
        runtime=from_input_size(240),
    params:
        encoder=encoder_config,
        hub=lambda w: [os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE")],
    message:
        "Fetching the weights of {wildcards.encoder} into the hub's cache"
    script:
        "../scripts/fetch_weights.py"


rule fetch:
    input:
        files=FETCHED_FILES,
        weights=expand(results("embeddings/{encoder}/weights.json"), encoder=HUB_ENCODERS),
    message:
        "Everything is there that the network is needed for"
