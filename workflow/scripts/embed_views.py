"""Encodes the planned further views of a sample's training cells; writes which cache parts hold them."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.encode import device, runner
from shest.tiles import shards


def main(input, output, params, wildcards, threads):
    record = files.read_json(input.record)
    plan = pd.read_parquet(input.plan)
    plan = plan[plan["sample"] == wildcards.sample]
    work = []
    for shard in shards.read_index(input.tiles)["shards"]:
        row = pd.Series(np.arange(len(shard["cells"])), index=shard["cells"])
        for view, part in plan[plan["cell_id"].isin(row.index)].groupby("view"):
            work.append((shard, int(view), np.sort(row[part["cell_id"]].to_numpy(np.int32))))
    if work:
        runner.run(record, work, Path(input.tiles).parent, params.cache, threads)
    files.write_json(output.index, runner.index(record, wildcards.sample, work, params.cache))


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
