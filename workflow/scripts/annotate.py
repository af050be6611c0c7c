"""Labels every cell of a sample by its expression, and by the pathologist's word where a table is given."""

from pathlib import Path

import anndata as ad
import pandas as pd

from shest.core import console, files
from shest.io.genes import describe
from shest.labels import annotate, markers, mixture, vote
from shest.labels.label_summary import summarise, summarise_markers

REFERENCE_KEYS = ("counts", "label_key", "symbol_key", "exclude")


def by_reference(counts, cell_ids, groups, input, params):
    """Label by TACCO or the mixture; return the labels and their summary."""
    settings, subtypes = params.annotate, params.members
    reference = annotate.read_reference(input.reference, **{k: params.reference[k] for k in REFERENCE_KEYS})
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
    return frame, summary | {"genes": joined}


def by_markers(counts, cell_ids, groups, params):
    """Label by clusters and databases of marker genes; return the labels and their summary."""
    settings = params.markers
    cells = counts[annotate.transcripts(counts) > 0].copy()
    transcripts = pd.Series(annotate.transcripts(cells), cells.obs_names)
    panel = list(cells.var_names)
    entries, organs = markers.read_entries(settings, params.types)
    known = markers.evidence(entries, params.organ, organs, settings["vote"], panel)
    embedded = markers.embed(cells, *(settings[key] for key in ("components", "neighbours", "seed")))
    clusters = markers.cluster(embedded, settings["resolution"], max(settings["top"], settings["neoplastic_top"]))
    named = markers.name_clusters(clusters, known, panel, settings)
    called = markers.call_types(clusters, named, markers.owners(params.types))
    frame = annotate.label(cell_ids, called, groups, "marker", params.annotate["label"])
    frame["cluster"] = called["cluster"].reindex(frame["cell_id"]).astype("string").to_numpy()
    summary = summarise_markers(cell_ids, called, groups, transcripts, clusters, named, settings)
    if params.organ and len(known.tables) == 1:
        summary["doubts"].append(markers.UNKNOWN_ORGAN.format(params.organ))
    facts = {"genes": markers.known_genes(panel, entries), "names_not_known": vote.unmapped(entries)}
    return frame, summary | facts


def main(input, output, params):
    counts = ad.read_zarr(Path(input.store) / "tables" / "table")
    counts.obs_names = cell_ids = counts.obs["cell_id"].astype(str)
    owners = annotate.group_owners(params.types)
    groups = annotate.read_table(input.table[0], cell_ids, owners) if input.table else None
    if params.annotate["method"] == "markers":
        frame, summary = by_markers(counts, cell_ids, groups, params)
    else:
        frame, summary = by_reference(counts, cell_ids, groups, input, params)
    console.log.info("cells by reason: " + ", ".join(f"{k} {v:,}" for k, v in frame["reason"].value_counts().items()))
    for doubt in summary["doubts"]:
        console.log.warning(f"WARNING {doubt}")
    with files.atomic_write(output.annotation) as tmp_path:
        frame.to_parquet(tmp_path, index=False)
    files.write_json(output.summary, summary | {"label": params.annotate["label"]})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
