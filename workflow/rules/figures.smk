"""The paper's figures, each with the data it shows."""


rule figure_4:
    input:
        scores=[
            R(f"evaluation/{SHOWN['encoder']}/{protocol}/{sample}.json")
            for sample in with_role("train")
            for protocol in config["protocols"]
        ],
        genes=shown("evaluation/{encoder}/{protocol}/{sample}.genes.csv", with_role("train")),
    output:
        **figure(4),
    log:
        R("logs/figures/figure_4.log"),
    benchmark:
        R("benchmarks/figures/figure_4.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=4000,
    params:
        protocol=SHOWN["protocol"],
        code=code("figures"),
    message:
        "Figure 4: internal test"
    script:
        "../scripts/figure_4.py"


rule figure_6:
    input:
        predictions=shown("predictions/{encoder}/{protocol}/{sample}.h5ad", LABELLED),
        annotations=shown("{sample}/annotation.parquet", LABELLED),
        registrations=shown("{sample}/registration.json", LABELLED),
    output:
        **figure(6),
    log:
        R("logs/figures/figure_6.log"),
    benchmark:
        R("benchmarks/figures/figure_6.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=8000,
    params:
        samples=LABELLED,
        stores=[R(f"{sample}/sdata.zarr") for sample in LABELLED],
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("figures", "store"),
    message:
        "Figure 6: annotated and predicted maps beside the H&E"
    script:
        "../scripts/figure_6.py"
