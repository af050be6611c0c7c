"""Writes the report of a run: scores first, then every stage with its numbers and pictures."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import yaml

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw import report, summary, view_links
from shest.draw.figure_list import FIGURES, TABLES
from shest.io.registration import Registration
from shest.score.evaluation import Evaluation

SCORES = """\
F1 of types, and Pearson R over all measured genes, of every system on the same cells. Training samples, strict: every
labelled cell, by a model of a fold that held it out; paper: the refined test part. Intervals are over spatial blocks,
whose number stands beside them; ± is the spread over folds. R within type is what is left of R once both sides are
centred by the cell's true type."""
BENCH = """\
Every system on the same units: each score with its 95 % interval over spatial blocks, differences paired over the same
blocks, and what each system costs. A difference is beyond chance where the p of its jackknife t, corrected for all
pairs of that score and sample (Holm), is below 0.05; the best was chosen on the cells that it is scored on. Genes with
R ≥ 0.30 stand beside their number where predictions are moved along the tissue. Costs are of this run's jobs on its
machine, without the encoding."""
LABELS = """\
Where marker genes name clusters of cells: each cluster with the votes of its first genes (the last counts nothing), the
entries that decided, and why, where none did. Cancer genes stand beside what the panel alone gives: how often as many
random genes pass the published test, and how probable so many cancer genes are. Ways to label: the same cells labelled
otherwise; a cell without a type counts as an error against the table."""
ABLATION = """\
Algorithm 1, before and after, in both spaces. The table puts it on trial: the linear system, on the same folds, fitted
on all training cells, on those it keeps, and on as many of each type drawn at random."""
PAPER_FIGURES = """\
The paper's figures and tables, from this run's results. For print: the .pdf of the same name in figures/."""
VIEWER = """\
Every cell and spot of a sample over its H&E, in this browser, offline; the folder viewer can be sent, or put on a web
server, as it is. The most frequent confusions open at the cells behind them."""
STAINS = """\
What systems on patches see once a sample's cast is removed and its stains are brought to those of a training sample."""
EVERY_CELL = "Every cell of every sample, and why it went on or not."
EVERY_SPOT = """\
Every spot of every sample, and why it went on or not: beyond the image, called off tissue by whoever measured it,
without counts, too little tissue in the square that encoders see. Spots of bundles are laid over their cells, whose
counts are summed; a system of cells is scored on them by the sum of what it expects of the cells."""
EXPORTS = """\
Predicted types of every cell. In QuPath, drop the .geojson onto the open slide; in Xenium Explorer, add the
.explorer.csv as cell groups."""


def reason_table(name, paths, unit="cells"):
    """Units by reason, a column a sample."""
    columns = {Path(p).parent.name: pd.read_parquet(p, columns=["reason"])["reason"].value_counts() for p in paths}
    frame = pd.DataFrame(columns).fillna(0).astype(int).sort_values(next(iter(columns)), ascending=False)
    frame.loc[f"all {unit}"] = frame.sum()
    return report.table(frame.rename_axis("reason").reset_index(), name)


def unit_blocks(input, labels, nuclei):
    """The sections on cells and on spots: every unit, and why it went on or not; of units that there are."""
    blocks = []
    if input.cells:
        tables = [reason_table("Cell filter", input.cells)]
        if input.annotations:
            tables.append(reason_table("Annotation", input.annotations))
            tables.append(report.table(summary.label_table(labels), "Labels"))
        if input.outlines:
            found = summary.outline_table(files.read_json(path) for path in input.outlines)
            tables.append(report.table(found, "Nuclei that systems find, out of fold, against those that were given"))
        blocks.append(report.Block("cells", "Cells", EVERY_CELL, tables, nuclei))
    if input.spots:
        blocks.append(report.Block("spots", "Spots", EVERY_SPOT, [reason_table("Spot filter", input.spots, "spots")]))
    return blocks


def geometry(registrations):
    """What each registration says, a row a sample; how many nuclei the H&E shows where it puts them."""
    rows = {name: asdict(registration) for name, registration in registrations.items()}
    frame = pd.DataFrame(rows).T[["source", "mpp_x", "mpp_y", "rotation", "mirror", "share_on_tissue", "matched"]]
    matched = [found or {} for found in frame.pop("matched")]
    for column, key in (("nuclei with a partner", "share"), ("by chance", "null"), ("residual_um", "residual_um")):
        frame[column] = [found.get(key) for found in matched]
    return frame.rename_axis("sample").reset_index().convert_dtypes()


def run_times(folder):
    """Time and memory of every job, out of Snakemake's benchmark files."""
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        last = pd.read_csv(path, sep="\t").iloc[-1]
        job = str(path.relative_to(folder).with_suffix(""))
        rows.append({"job": job, "seconds": last["s"], "peak memory (MB)": last.get("max_rss")})
    return pd.DataFrame(rows, columns=["job", "seconds", "peak memory (MB)"])


def pages_of(input, params):
    """What the viewers show."""
    with_unit = {unit: [Path(path).parent.name for path in input[unit]] for unit in ("cells", "spots")}
    units = {name: [unit for unit, names in with_unit.items() if name in names] for name in params.samples}
    return view_links.Pages(units if input.viewer else {}, params.viewed, params.shown["protocol"])


def left_for(input):
    """Why cells of each sample left: by themselves, or by their label."""
    reasons = {}
    for path in [*input.cells, *input.annotations]:
        reasons.setdefault(Path(path).parent.name, set()).update(pd.read_parquet(path, columns=["reason"])["reason"])
    return reasons


def figure_picture(path, views):
    """A figure with its caption, where its data lie, and views that show the same; ``views``: by number."""
    number = Path(path).stem.removeprefix("figure_")
    caption = f"Figure {number}: {FIGURES[number].caption}."
    drawn = report.picture(path, caption, f"figures/source_data/figure_{number}")
    return replace(drawn, views=views(number))


def label_block(labels, ways):
    """What the labels rest on: clusters and their genes where they name them, and other ways to label."""
    tables = [report.table(summary.label_comparison_table(ways), "Ways to label")] if ways else []
    for sample, found in labels.items():
        if found["method"] == "markers":
            quality = "–" if found["silhouette"] is None else f"{found['silhouette']:.2f}"
            genes = found["genes"]
            name = (
                f"{sample}: {len(found['clusters'])} clusters at resolution {found['resolution']:g}, silhouette "
                f"{quality}; {genes['known']:,} of {genes['sample']:,} genes known, {genes['cancer']:,} of cancer; "
                f"{len(found['names_not_known']):,} names of cell types of no category"
            )
            tables.append(report.table(summary.cluster_table(found), name))
    return report.Block("labels", "Labels", LABELS, tables)


def bench_block(input, comparisons, below):
    """All systems side by side, in words, tables and a picture."""
    costs = {Path(path).name.removesuffix(".costs.csv"): pd.read_csv(path) for path in input.costs}
    gaps = summary.difference_table(comparisons)
    tables = [report.table(summary.side_by_side_table(comparisons), "Scores, 95 % intervals over blocks")]
    tables += [report.table(gaps, "Paired differences, same units and blocks")] if len(gaps) else []
    tables += [report.table(summary.cost_table(costs), "What they cost")]
    pictures = [
        report.picture(
            path,
            f"{Path(path).stem.partition('.')[0]}: {'scores against costs' if '.costs' in path else 'all systems'}",
            f"{below(path).with_suffix('')}.source_data",
        )
        for path in input.comparison_figures
    ]
    return report.Block(
        "systems", "Systems side by side", BENCH, tables, pictures, items=summary.verdict_sentences(comparisons)
    )


def sections(input, params, evaluations, models, registrations, labels, ablations, ways, pages):
    """The report's sections, those of which this run has something."""
    folder = Path(params.results)

    def below(path):
        return Path(path).relative_to(folder)

    def pictures(paths, what):
        return [report.picture(path, f"{below(path).with_suffix('')}: {what}") for path in paths]

    comparators = summary.comparator_table(evaluations)
    scores = [report.table(summary.score_table(evaluations))]
    scores += [report.table(comparators, "Other programs")] if len(comparators) else []
    goes_with = summary.property_table(evaluations)
    scores += [report.table(goes_with, "What R goes with, rank correlations over genes")] if len(goes_with) else []
    comparisons = {Path(path).stem: files.read_json(path) for path in input.comparisons}
    ablation = [report.table(summary.ablation_table(ablations), "Refinement on trial")] if ablations else []
    tables = [
        report.table(pd.read_csv(path), f"Table {number}: {caption}")
        for path, (number, caption) in zip(input.tables, TABLES.items(), strict=True)
    ]
    overlays, tiles = pictures(input.overlays, "nuclei on the H&E"), pictures(input.tiles, "random cells of each type")
    nuclei = pictures(input.segmentations, "nuclei found in the H&E")
    refinements, curves = pictures(input.refinements, "before and after"), pictures(input.curves, "losses")
    system = params.shown["system"]
    known = {gene for model in models.values() if model["system"] == system for gene in model["genes"]}
    markers = {t: gene for t, gene in params.config["figures"].get("markers", {}).items() if gene in known}

    measured = {Path(path).name.partition(".cells.")[0]: set(pd.read_csv(path)["gene"]) for path in input.measured}

    def views(number):
        samples = params.figure_samples.get(FIGURES[number].samples, ())  # none of figures of one kind of system
        return view_links.figure_links(number, samples, pages, evaluations, system, markers, measured)

    texts = [
        ("Configuration", yaml.safe_dump(params.config, sort_keys=False, allow_unicode=True)),
        *((f"Environment {Path(path).stem}", Path(path).read_text()) for path in params.envs),
        ("Versions", yaml.safe_dump({path: model["versions"] for path, model in models.items()})),
    ]
    figures = [figure_picture(path, views) for path in input.figures]
    into = view_links.sample_links(pages, evaluations) if pages.units else []
    times = [report.table(run_times(folder / "benchmarks"), "Time and memory", 1)]
    blocks = [
        report.Block("scores", "Scores", SCORES, scores),
        bench_block(input, comparisons, below),
        report.Block("figures", "Figures", PAPER_FIGURES, tables, figures),
        *unit_blocks(input, labels, nuclei),
        label_block(labels, ways),
        report.Block(
            "registration",
            "Registration",
            "Outlines should lie on nuclei. Blocks that are red, or have an arrow, do not agree with the H&E.",
            [report.table(geometry(registrations))],
            overlays,
        ),
        report.Block("tiles", "Tiles", "What the encoder sees: window, nucleus; their haematoxylin.", pictures=tiles),
        report.Block("stains", "Stains", STAINS, pictures=pictures(input.stains, "before and after")),
        report.Block("refinement", "Refinement", ABLATION, ablation, refinements),
        report.Block("training", "Training", pictures=curves),
        report.Block("viewer", "Cells over the H&E", VIEWER, links=into),
        report.Block("viewers", "Into the viewers", EXPORTS, links=[(str(below(path)),) * 2 for path in input.exports]),
        report.Block("run", "Run", tables=times, texts=texts),
    ]
    return [b for b in blocks if b.tables or b.pictures or b.texts or b.links]


def main(input, output, params):
    evaluations = [Evaluation.read(path) for path in input.scores]
    models = {str(Path(path).parent.relative_to(params.results)): files.read_json(path) for path in input.models}
    registrations = {Path(path).parent.name: Registration.read(path) for path in input.registrations}
    given = {name: bool(params.samples[name]["annotation"]) for name in (Path(p).parent.name for p in input.labels)}
    labels = {Path(path).parent.name: files.read_json(path) for path in input.labels}
    ablations = [files.read_json(path) for path in input.ablations]
    ways = {Path(path).parent.name: pd.read_csv(path) for path in input.label_comparisons}
    trained = {name: row["patient"] for name, row in params.samples.items() if row["role"] == "train"}
    patients = summary.patient_doubts(trained, params.config["split"]["by"])
    pages = pages_of(input, params)
    html = report.render(
        "SHEST report",
        summary.opening(models.values(), params.simulated),
        summary.headline(evaluations, params.shown["system"]),
        summary.doubts(evaluations, registrations, given, models.values(), labels, ablations, ways, patients),
        sections(input, params, evaluations, models, registrations, labels, ablations, ways, pages),
        view_links.doubt_links(pages, evaluations, left_for(input)),
    )
    if len(html) > report.LIMIT_MB * 1e6:
        raise InputError(output.html, f"the report would take {len(html) / 1e6:.0f} MB", "Report fewer samples a run")
    with files.atomic_write(output.html) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    console.log.info(f"{output.html}: {os.path.getsize(output.html) / 1e6:.1f} MB")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
