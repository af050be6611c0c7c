"""Puts refinement on trial: the linear system fitted on all training cells, on the refined, on as many at random."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.encode.cache import Embeddings
from shest.labels import training_set
from shest.score.evaluate import score_types
from shest.systems.linear.system import classify

VARIANTS = ("all", "algorithm_1", "random")


def training_tables(split, refined, min_cells, seed):
    """Return the training and validation cells of each variant, with the same classes numbered alike."""
    everything, classes = training_set.training_table(split, None, "strict", min_cells)
    kept, _ = training_set.training_table(split, refined, "strict", 1)
    kept = kept[kept["cell_type"].isin(classes)]
    kept = kept.assign(label=pd.Categorical(kept["cell_type"], classes).codes.astype(np.int64))
    return {
        "all": everything,
        "algorithm_1": kept,
        "random": training_set.remove_at_random(everything, kept, seed),
    }, classes


def held_out(split, fold, validation):
    """Return the labelled cells that no model of a fold has seen: its test part, or the validation samples."""
    return validation if fold == "all" else split.loc[split["part"] == "test", ["sample", "id", "cell_type"]]


def read_validation(params, input):
    """Return the labelled cells of the validation samples: sample, id, cell_type."""
    paths = zip(params.validation, input.cells, input.annotations, strict=True)
    columns = ["sample", "id", "cell_type"]
    tables = [training_set.labelled_cells(sample, cells, table)[columns] for sample, cells, table in paths]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def main(input, output, params):
    validation, predicted, sizes = read_validation(params, input), [], []
    with console.track(len(params.folds), "ablation of refinement", "folds") as advance:
        for fold, path in zip(params.folds, input.splits, strict=True):
            split = training_set.read_split(path)
            refined = training_set.read_fold(params.samples, input.refinement, fold)
            tables, classes = training_tables(split, refined, params.min_cells, params.seed)
            unseen = held_out(split, fold, validation)
            for variant, table in tables.items():
                units = pd.concat([table, unseen])
                source = Embeddings(input.embeddings, list(zip(units["sample"], units["id"], strict=True)))
                called = classify(source, table, np.arange(len(table), len(units)), len(classes), params.seed)
                predicted.append(unseen.assign(variant=variant, predicted=np.array(classes)[called]))
                sizes.append({"variant": variant, "train": int((table["part"] == "train").sum())})
            advance()
    rows, train = [], pd.DataFrame(sizes).groupby("variant")["train"].mean()
    for (sample, variant), cells in pd.concat(predicted).groupby(["sample", "variant"], sort=False):
        label, called = cells["cell_type"].to_numpy(str), cells["predicted"].to_numpy(str)
        scores = score_types(label, called, sorted(set(label) | set(called)))
        row = {"sample": sample, "variant": variant, "n": len(cells), "train": round(float(train[variant]))}
        rows.append(row | {"weighted": scores.weighted, "macro": scores.macro})
        console.log.info(f"{sample}, {variant}: weighted F1 {scores.weighted:.3f}, macro {scores.macro:.3f}")
    files.write_json(output.ablation, {"system": "linear", "folds": list(params.folds), "rows": rows})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
