"""Figure 4: confusion matrices, F1 beside the baselines, Pearson R per gene, on the test parts of training samples."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from shest import console, figures, files


def summed(scores):
    """Add up the confusion matrices of several samples."""
    types = list(dict.fromkeys(t for s in scores for t in s["confusion"]["types"]))
    total = pd.DataFrame(0, index=types, columns=types)
    for s in scores:
        names = s["confusion"]["types"]
        total = total.add(pd.DataFrame(s["confusion"]["counts"], index=names, columns=names), fill_value=0)
    return total.loc[types, types].to_numpy().astype(int), types


def f1_rows(scores):
    """One row a sample, protocol and score: the heads with their interval, and the logistic baseline."""
    rows = []
    for s in scores:
        for name in ("weighted", "macro"):
            low, high = s["intervals"].get(name) or (np.nan, np.nan)
            label = f"{s['sample']}\n{name}"
            rows.append((label, f"heads, {s['protocol']}", s["f1"][name], low, high))
            value = s["baselines"]["logistic"]["f1"][name]
            rows.append((label, f"logistic, {s['protocol']}", value, np.nan, np.nan))
    return pd.DataFrame(rows, columns=["score", "by", "value", "low", "high"])


def main(input, output, params):
    scores = [files.read_json(path) for path in input.scores]
    shown = [s for s in scores if s["protocol"] == params.protocol]
    matrix, types = summed(shown)
    figure, axes = plt.subplots(2, 2, figsize=(9, 8))
    data = {
        "A": figures.confusion(axes[0, 0], matrix, types, False, "Cells"),
        "B": figures.confusion(axes[0, 1], matrix, types, True, "Share of actual cells"),
        "C": figures.bars(axes[1, 0], f1_rows(scores), "F1 (95 % interval over spatial blocks)"),
    }
    tables = [pd.read_csv(path).assign(sample=s["sample"]) for path, s in zip(input.genes, shown, strict=True)]
    genes = pd.concat(tables)
    data["D"] = genes[["sample", "gene", "pearson"]]
    groups = [(name, part["pearson"].to_numpy()) for name, part in genes.groupby("sample", sort=False)]
    axes[1, 1].violinplot([values for _, values in groups], showmedians=True)
    labels = [f"{name}\nmedian {np.median(values):.3f}\n{len(values)} genes" for name, values in groups]
    axes[1, 1].set_xticks(range(1, len(groups) + 1), labels)
    axes[1, 1].set(ylabel="Pearson R", title="Actual against reconstructed expression, by gene")
    for axis, name in zip(axes.flat, "ABCD", strict=True):
        figures.letter(axis, name)
    figures.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
