"""Writes which further views of training cells a fit will ask for."""

from shest.core import console, files
from shest.labels import orientations, training_set


def main(input, output, params, wildcards):
    split = training_set.read_split(input.split)
    refined = training_set.read_fold(params.samples, input.refinement, wildcards.fold)
    table, _ = training_set.training_table(split, refined, wildcards.protocol, params.min_cells)
    table = table.sort_values("sample", key=lambda s: s.map(params.samples.index), kind="stable")
    table = table[table["part"] == "train"]
    invariant = files.read_json(input.record)["orientation_invariant"]
    cells, views = orientations.plan(table["label"].to_numpy(), params.views, params.seed, invariant)
    plan = table.iloc[cells][["sample", "id"]].rename(columns={"id": "cell_id"}).assign(view=views)
    console.log.info(f"{len(plan):,} further views of {len(table):,} training cells")
    with files.atomic_write(output.plan) as tmp_path:
        plan.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
