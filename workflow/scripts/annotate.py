"""Labels every cell of a sample by its expression, and by the pathologist's word where a table is given."""

from pathlib import Path

import anndata as ad
import pandas as pd

from shest.core import console, files
from shest.io.genes import describe
from shest.labels import annotate, mixture
from shest.labels.label_summary import summarise


def main(input, output, params):
    settings, subtypes = params.annotate, params.subtypes
    counts = ad.read_zarr(Path(input.store) / "tables" / "table")
    counts.obs_names = cell_ids = counts.obs["cell_id"].astype(str)
    keys = ("counts", "label_key", "symbol_key", "exclude")
    reference = annotate.read_reference(input.reference, **{k: params.reference[k] for k in keys})
    groups = annotate.read_table(input.table[0], cell_ids) if input.table else None
    cells, known, joined = annotate.share_genes(counts, reference, params.reference["min_shared_genes"])

    console.log.info(describe(joined))
    transcripts = pd.Series(annotate.transcripts(cells), cells.obs_names)
    likely = mixture.fit(cells, known)
    estimated = mixture.composition(likely, transcripts)
    kind, prior = annotate.choose_prior(settings["prior"], groups, transcripts, subtypes, known, estimated)
    shares = annotate.run_tacco(cells, known, None if kind == "reference" else prior)
    calls = {
        "tacco": annotate.call_types(shares, subtypes, pooled=False),
        "mixture": annotate.call_types(likely, subtypes, pooled=True),
    }

    method = settings["method"]
    frame = annotate.label(cell_ids, calls[method], groups, method, settings["label"])
    compositions = {"prior": prior, "reference": annotate.reference_shares(known), "estimated": estimated}
    summary = summarise(cell_ids, calls, groups, method, compositions, kind, transcripts, subtypes)
    console.log.info("cells by reason: " + ", ".join(f"{k} {v:,}" for k, v in frame["reason"].value_counts().items()))
    for doubt in summary["doubts"]:
        console.log.warning(f"WARNING {doubt}")
    with files.atomic_write(output.annotation) as tmp_path:
        frame.to_parquet(tmp_path, index=False)
    files.write_json(output.summary, summary | {"label": settings["label"], "genes": joined})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
