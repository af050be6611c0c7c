"""Every tile becomes an embedding, once; the cache keeps it."""

EMBED_JOBS = config["embed"]["shards"]


rule encoder:
    output:
        record=results("embeddings/{encoder}/encoder.json"),
    log:
        results("logs/encoder/{encoder}.log"),
    benchmark:
        results("benchmarks/encoder/{encoder}.tsv")
    priority: 100
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=encoder_mb,
        runtime=from_input_size(60),
    params:
        encoder=encoder_config,
        precision=config["embed"]["precision"],
        batch=config["embed"]["batch"],
    message:
        "Settling the encoder {wildcards.encoder}"
    script:
        "../scripts/resolve_encoder.py"


rule embed_part:
    input:
        record=results("embeddings/{encoder}/encoder.json"),
        tiles=results("samples/{sample}/tiles/tiles.json"),
    output:
        part=results("embeddings/{encoder}/{sample}/parts/{part}-of-{parts}.json"),
    log:
        results("logs/embed/{encoder}/{sample}.{part}-of-{parts}.log"),
    benchmark:
        results("benchmarks/embed/{encoder}/{sample}.{part}-of-{parts}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=encoder_mb,
        runtime=encoding_minutes("embed_part", 1 / EMBED_JOBS),
    params:
        cache=CACHE,
    message:
        "Embedding {wildcards.sample} with {wildcards.encoder}, part {wildcards.part} of {wildcards.parts}"
    script:
        "../scripts/embed.py"


rule embed:
    input:
        record=results("embeddings/{encoder}/encoder.json"),
        tiles=results("samples/{sample}/tiles/tiles.json"),
        parts=[
            results(f"embeddings/{{encoder}}/{{sample}}/parts/{part}-of-{EMBED_JOBS}.json")
            for part in range(1, EMBED_JOBS + 1)
        ],
    output:
        index=results("embeddings/{encoder}/{sample}/embeddings.json"),
    log:
        results("logs/embed/{encoder}/{sample}.log"),
    benchmark:
        results("benchmarks/embed/{encoder}/{sample}.tsv")
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(1000, tiles=100, parts=1),
        runtime=from_input_size(10, tiles=1),
    params:
        cache=CACHE,
    message:
        "Gathering the embeddings of {wildcards.sample}"
    script:
        "../scripts/index_embeddings.py"
