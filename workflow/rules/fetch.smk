"""Public data: files and the files of bundles, fetched into one folder where a rule needs them."""

import time

FETCHED = PATHS.made["{fetched}"]
FETCH_FILES, FETCH_BUNDLES = fetch.sources(config["fetch"])
FETCH_FILES = fetch.targets(FETCH_FILES, FETCH_BUNDLES)
FETCHED_FILES = [f"{FETCHED}/{name}" for name in FETCH_FILES]
FETCHED_FILES += [f"{FETCHED}/{bundle}/{name}" for bundle in FETCH_BUNDLES for name in places.BUNDLE_FILES]
HUB_ENCODERS = fetch.hub_encoders(config["encoders"])


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
        mem_mb=sized(500),
        runtime=sized(720),
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
        files=[f"{FETCHED}/{{bundle}}/{name}" for name in places.BUNDLE_FILES],
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
        mem_mb=sized(500),
        runtime=sized(720),
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
        files=FETCHED_FILES,
        weights=expand(results("embeddings/{encoder}/weights.json"), encoder=HUB_ENCODERS),
    message:
        "Everything is there that the network is needed for"


# Said before anything large is done, and anew whenever it is asked for: by the servers, until the files are there.
rule needs:
    input:
        looked_into if all(map(os.path.exists, FETCHED_FILES)) else [],
    output:
        needs=results("needs.json"),
    log:
        results("logs/needs.log"),
    benchmark:
        results("benchmarks/needs.tsv")
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=sized(2000),
        runtime=sized(30),
    params:
        asked=time.time(),
        folder=lambda w: FETCHED,
        results=lambda w: RESULTS,
        samples=lambda w: {sample: sample_settings(sample) for sample in SAMPLES},
        reference=lambda w: REFERENCE,
        checked=lambda w: checked_config(),
    message:
        "Looking what the run will need"
    script:
        "../scripts/needs.py"
