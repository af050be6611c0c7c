"""Labels every cell of a sample: subtype by TACCO, type, and the pathologist's word where a table is given."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.errors import InputError
from shest.labels import annotate


def choose_prior(kind, groups, counts, subtypes, reference):
    """Return the prior over subtypes that the config asks for; None is the reference's composition."""
    if isinstance(kind, dict):
        unknown = sorted(set(kind) - set(reference.obs[annotate.KEY].cat.categories))
        if unknown:
            raise InputError("annotate.prior", f"unknown subtypes {', '.join(unknown)}", "Use the reference's names")
        return pd.Series(kind, dtype=float) / sum(kind.values())
    if kind == "table" and groups is not None:
        transcripts = pd.Series(np.asarray(counts.X.sum(axis=1)).ravel(), index=counts.obs_names)
        return annotate.prior_from_table(groups, transcripts, subtypes, reference)
    if kind == "table":
        console.log.warning("no pathologist's table: the reference's composition is the prior")
    return None


def main(input, output, params):
    counts = ad.read_zarr(Path(input.store) / "tables" / "table")
    counts.obs_names = counts.obs["cell_id"].astype(str)
    settings = {k: params.reference[k] for k in ("counts", "label_key", "symbol_key", "exclude")}
    reference = annotate.read_reference(input.reference, **settings)
    groups = annotate.read_table(input.table[0], counts.obs_names) if input.table else None
    prior = choose_prior(params.prior, groups, counts, params.subtypes, reference)
    shares = annotate.run_tacco(counts, reference, prior, params.reference["min_shared_genes"])
    frame = annotate.label(counts.obs_names, shares, params.subtypes, groups)
    console.log.info("cells by reason: " + ", ".join(f"{k} {v:,}" for k, v in frame["reason"].value_counts().items()))
    if groups is not None:
        both = frame["tacco_type"].notna() & frame["table_type"].notna()
        agree = (frame["tacco_type"] == frame["table_type"])[both].mean()
        console.log.info(f"TACCO and the table agree for {agree:.1%} of {int(both.sum()):,} cells that both label")
    with files.atomic_write(output.annotation) as tmp_path:
        frame.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
