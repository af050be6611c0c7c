"""Gathers what was said of each slide: a table of states, compositions, neighbours, and mean expression by slide."""

import anndata as ad
import pandas as pd

from shest.core import console, files
from shest.score.composition import COLUMNS
from shest.score.neighbourhood import neighbourhood


def write_csv(path, frame, **options):
    with files.atomic_write(path) as tmp_path:
        frame.to_csv(tmp_path, index=False, float_format="%.6g", **options)


def state_row(sample, state):
    """One row of the table of slides."""
    row = {"slide": sample, "state": state["state"], "reason": state["reason"], "seconds": state["total_seconds"]}
    if state["state"] != "done":
        return row
    place = state["domain"]
    return row | {
        "nuclei": sum(state["cells"].values()) - state["cells"]["no_nucleus"],
        "predicted": state["cells"]["kept"],
        "tissue_mm2": state["tissue_mm2"],
        "mpp": state["mpp"][0],
        "outlines": state["segment"],
        "unlike_training": place.get("embedding", {}).get("beyond"),
        "doubts": "; ".join(state["doubts"]) or None,
    }


def main(input, output, params):
    states = {sample: files.read_json(path) for sample, path in zip(params.samples, input.states, strict=True)}
    done = {sample: path for sample, path in params.predictions.items() if states[sample]["state"] == "done"}
    table = pd.DataFrame([state_row(sample, state) for sample, state in states.items()])
    parts = [{"slide": s, **part} for s in done for part in states[s]["composition"]]
    beside, expression = [], {}
    with console.track(len(done), "slides gathered", "slides") as advance:
        for sample, path in done.items():
            found = ad.read_h5ad(path, backed="r")
            if len(found.uns["classes"]):
                pairs = neighbourhood(found.obs["cell_type"], found.obsm["spatial"])
                beside += [{"slide": sample, **pair} for pair in pairs]
            expression[sample] = found.var["expected"]
            found.file.close()
            advance(1)
    write_csv(output.slides, table, sep="\t")
    write_csv(output.composition, pd.DataFrame(parts, columns=["slide", *COLUMNS]))
    write_csv(output.neighbours, pd.DataFrame(beside, columns=["slide", "type", "beside", "z"]))
    write_csv(output.expression, pd.DataFrame(expression).T.rename_axis("slide").reset_index())
    console.log.info(f"{len(done):,} of {len(states):,} slides are done")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
