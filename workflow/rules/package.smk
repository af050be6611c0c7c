"""A trained system as a folder that works on another machine."""


localrules:
    packages,


rule package:
    input:
        model=lambda w: models("model.safetensors", [w.system])[0],
        record=lambda w: models("model.json", [w.system])[0],
        card=lambda w: models("card.md", [w.system])[0],
        split=results(f"splits/{config['protocols'][0]}/{DEPLOYED[config['protocols'][0]]}.parquet"),
        segmenter=lambda w: models("model.safetensors", segmenters(w.system)),
        encoder=lambda w: [encoder_record(w)] if reads(w.system) == "embeddings" else [],
        source=sources_of_training,
        tiles=[results(f"samples/{sample}/tiles/tiles.json") for sample in TRAIN_SAMPLES],
        cells=[results(f"samples/{sample}/cells.parquet") for sample in TRAIN_SAMPLES],
    output:
        model=results("packages/{system}/model.safetensors"),
        record=results("packages/{system}/model.json"),
        card=results("packages/{system}/card.md"),
        probe=results("packages/{system}/probe.safetensors"),
        checksums=results("packages/{system}/checksums.txt"),
    log:
        results("logs/package/{system}.log"),
    benchmark:
        results("benchmarks/package/{system}.tsv")
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(3000, model=5, cells=20, source=100),
        runtime=from_input_size(15),
    params:
        reads=lambda w: reads(w.system),
        window_um=config["tiles"]["window_um"],
        cells=config["cells"],
        cell_types=TYPES,
        encoder_weights=config["package"]["encoder_weights"],
        code=lambda w: code("package", w.system),
    message:
        "Packing {wildcards.system}"
    script:
        "../scripts/package.py"


rule packages:
    input:
        [results(f"packages/{system}/checksums.txt") for system in PACKED],
    message:
        "Packed: {input}"
