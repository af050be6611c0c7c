"""The paper's figures, each with the data it shows."""

FIGURE_ENCODER = config["figures"].get("encoder", ENCODERS[0])
FIGURE_PROTOCOL = config["figures"].get("protocol", config["protocols"][0])
LABELLED = with_role("train", "validation")
SHOWN = {"encoder": FIGURE_ENCODER, "protocol": FIGURE_PROTOCOL}


def figure(number):
    """Outputs of a figure."""
    return {
        "png": report(R(f"figures/figure_{number}.png"), caption="../report/figure.rst", category="Figures"),
        "pdf": R(f"figures/figure_{number}.pdf"),
        "data": directory(R(f"figures/source_data/figure_{number}")),
    }


def shown(path, samples):
    """Paths of the shown encoder and protocol, for some samples."""
    return [R(path.format(sample=sample, **SHOWN)) for sample in samples]


rule figure_4:
    input:
        scores=[
            R(f"evaluation/{FIGURE_ENCODER}/{protocol}/{sample}.json")
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
    params:
        protocol=FIGURE_PROTOCOL,
        code=code("figures"),
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=4000,
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
    params:
        samples=LABELLED,
        stores=[R(f"{sample}/sdata.zarr") for sample in LABELLED],
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("figures", "store"),
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=8000,
    message:
        "Figure 6: annotated and predicted maps beside the H&E"
    script:
        "../scripts/figure_6.py"
