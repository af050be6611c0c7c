"""Labels the same cells in the ways that annotate.compare names, and compares them with each other and the table."""

from pathlib import Path

import anndata as ad
import pandas as pd

from shest.core import console, files
from shest.labels import annotate, comparison, markers, mixture, signatures

REFERENCE_KEYS = ("counts", "label_key", "symbol_key", "exclude")


def by_reference(counts, groups, ways, input, params):
    """Types by TACCO with each prior and by the mixture, by way and variant."""
    subtypes = {name: entry["subtypes"] for name, entry in params.types.items()}
    reference = annotate.read_reference(input.reference, **{k: params.reference[k] for k in REFERENCE_KEYS})
    cells, known, _ = annotate.share_genes(counts, reference, params.reference["min_shared_genes"])
    transcripts = pd.Series(annotate.transcripts(cells), cells.obs_names)
    likely = mixture.fit(cells, known)
    estimated = mixture.composition(likely, transcripts)
    found = {}
    if "tacco" in ways:
        own = params.annotate["prior"]
        kinds = ["estimated", "reference", *["table"] * (groups is not None)]
        for kind in [*kinds, *[own] * isinstance(own, dict)]:
            name, prior = annotate.choose_prior(kind, groups, transcripts, subtypes, known, estimated)
            shares = annotate.run_tacco(cells, known, None if kind == "reference" else prior)
            found["tacco", f"prior {name}"] = annotate.call_types(shares, subtypes, pooled=False)["type"]
    if "mixture" in ways:
        found["mixture", ""] = annotate.call_types(likely, subtypes, pooled=True)["type"]
    return found


def by_markers(counts, ways, params):
    """Types by clusters and by scores of gene sets, by way and variant."""
    settings, owners = params.markers, markers.owners(params.types)
    cells = counts[annotate.transcripts(counts) > 0].copy()
    panel = list(cells.var_names)
    entries, organs = markers.read_entries(settings, params.types)
    known = markers.evidence(entries, params.organ, organs, settings["vote"], panel)
    found = {}
    if "markers" in ways:
        embedded = markers.embed(cells, *(settings[key] for key in ("components", "neighbours", "seed")))
        top, clusters = max(settings["top"], settings["neoplastic_top"]), {}
        for variant in comparison.variants(settings):
            resolution = variant["resolution"]
            if resolution not in clusters:
                clusters[resolution] = markers.cluster(embedded, resolution, top)
            named = markers.name_clusters(clusters[resolution], known, panel, variant)
            called = markers.call_types(clusters[resolution], named, owners)
            found["markers", comparison.name_of(variant)] = called["type"]
    sets = signatures.gene_sets(next(iter(known.tables.values())), panel)
    for way in signatures.SCORES:
        if way in ways:
            categories = signatures.best_category(signatures.SCORES[way](cells.X.tocsr(), sets))
            found[way, ""] = pd.Series(categories, cells.obs_names, dtype=object).map(owners)
    return found


def used_way(params, groups):
    """Way and variant of the run's own labels."""
    method, prior = params.annotate["method"], params.annotate["prior"]
    if method == "markers":
        return method, comparison.name_of(params.markers)
    if method == "mixture":
        return method, ""
    if isinstance(prior, dict):
        return method, "prior given"
    auto = "estimated" if groups is None else "table"
    return method, f"prior {auto if prior == 'auto' else prior}"


def main(input, output, params):
    counts = ad.read_zarr(Path(input.store) / "tables" / "table")
    counts.obs_names = counts.obs["cell_id"].astype(str)
    groups = None
    if input.table:
        groups = annotate.read_table(input.table[0], counts.obs_names, annotate.group_owners(params.types))
    used = used_way(params, groups)
    ways = {*params.annotate["compare"], used[0]}
    calls = {}
    if ways & {"tacco", "mixture"}:
        calls |= by_reference(counts, groups, ways, input, params)
    if ways - {"tacco", "mixture"}:
        calls |= by_markers(counts, ways, params)
    cells = pd.Index(sorted(set.union(*(set(called.index) for called in calls.values()))))
    table, confusion = comparison.compare({k: called.reindex(cells) for k, called in calls.items()}, used, groups)
    for path, frame in ((output.table, table), (output.confusion, confusion)):
        with files.atomic_write(path) as tmp_path:
            frame.to_csv(tmp_path, index=False, float_format="%.6g")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
