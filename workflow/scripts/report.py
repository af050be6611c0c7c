"""Writes the report of a run: scores first, then every stage with its numbers and pictures."""

import os
from pathlib import Path

import pandas as pd
import yaml

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw import report

TABLES = ("Table 1: data sets", "Table S1: subtypes of each type")


def named(paths, results):
    """Say what a picture is by its place under the results."""
    return [(path, str(Path(path).relative_to(results).with_suffix(""))) for path in paths]


def trained(models):
    """One sentence a model: what was trained on what."""
    said = []
    for m in models:
        cells = sum(m["cells"]["train"].values())
        said.append(
            f"{m['encoder']}, {m['protocol']}: trained on {cells:,} cells of {', '.join(m['samples'])}; "
            f"{len(m['classes'])} types, {len(m['genes']):,} genes, {m['members']} members"
        )
    return ". ".join(said) + "."


def headline(scores):
    """The cards of the first screen, one an evaluation, strict ones first."""
    cards = []
    for s in scores:
        low, high = s["intervals"].get("weighted") or (None, None)
        interval = f", 95 % {low:.2f}–{high:.2f}" if low is not None else ""
        kind = {"train": "internal test", "validation": "external"}[s["role"]]
        note = f"{kind}, {s['n_cells']:,} cells{interval}; logistic {s['baselines']['logistic']['f1']['weighted']:.3f}"
        name = f"{s['sample']}: weighted F1, {s['protocol']} ({s['encoder']})"
        cards.append({"name": name, "value": f"{s['f1']['weighted']:.3f}", "note": note})
    cards.sort(key=lambda card: "strict" not in card["name"])
    return cards


def reason_tables(input, samples):
    """Cells by reason, a column a sample, for the cell filter and for the annotation."""
    tables = []
    for name, paths in (("Cell filter", input.cells), ("Annotation", input.annotations)):
        columns = {Path(p).parent.name: pd.read_parquet(p, columns=["reason"])["reason"].value_counts() for p in paths}
        frame = pd.DataFrame(columns).fillna(0).astype(int).sort_values(next(iter(columns)), ascending=False)
        frame.loc["all cells"] = frame.sum()
        tables.append(report.table(frame.rename_axis("reason").reset_index(), name))
    return tables


def run_times(results):
    """Time and memory of every job, out of Snakemake's benchmark files."""
    rows = []
    for path in sorted(Path(results, "benchmarks").rglob("*.tsv")):
        found = pd.read_csv(path, sep="\t").iloc[-1]
        job = str(path.relative_to(Path(results, "benchmarks")).with_suffix(""))
        rows.append({"job": job, "seconds": found["s"], "peak memory (MB)": found.get("max_rss")})
    return pd.DataFrame(rows, columns=["job", "seconds", "peak memory (MB)"])


def main(input, output, params):
    scores = [files.read_json(path) for path in input.scores]
    models = {str(Path(p).parent.relative_to(params.results)): files.read_json(p) for p in input.models}
    registrations = {Path(p).parent.name: files.read_json(p) for p in input.registrations}
    given = {name: bool(row["annotation"]) for name, row in params.samples.items() if row["role"] != "predict"}
    geometry = pd.DataFrame(registrations).T[["mpp_x", "mpp_y", "rotation", "mirror", "share_on_tissue"]]
    geometry = geometry.rename_axis("sample").reset_index().convert_dtypes()

    def pictures(paths, what):
        return [report.picture(path, f"{name}: {what}") for path, name in named(paths, params.results)]

    blocks = [
        report.Block(
            "scores",
            "Scores",
            "F1 of types and median Pearson R over all measured genes, heads beside their "
            "baselines on the same embeddings. Samples of role train: held-out test part.",
            tables=[report.table(report.score_table(scores)), *report.comparator_tables(scores)],
        ),
        report.Block(
            "figures",
            "Figures",
            "The paper's figures and tables, from this run's results. For print: "
            "the .pdf of the same name in figures/.",
            tables=[report.table(pd.read_csv(p), name) for p, name in zip(input.tables, TABLES, strict=True)],
            pictures=[
                report.picture(
                    p, f"Figure {number}: {report.CAPTIONS[number]}.", f"figures/source_data/figure_{number}"
                )
                for p, number in ((p, Path(p).stem.removeprefix("figure_")) for p in input.figures)
            ],
        ),
        report.Block(
            "cells",
            "Cells",
            "Every cell of every sample, and why it went on or not.",
            tables=reason_tables(input, params.samples),
        ),
        report.Block(
            "registration",
            "Registration",
            "Outlines should lie on nuclei.",
            tables=[report.table(geometry)],
            pictures=pictures(input.overlays, "nuclei on the H&E"),
        ),
        report.Block(
            "tiles",
            "Tiles",
            "What the encoder sees: window, nucleus; their haematoxylin.",
            pictures=pictures(input.tiles, "random cells of each type"),
        ),
        report.Block(
            "refinement",
            "Refinement",
            "Algorithm 1, before and after, in both spaces.",
            pictures=pictures(input.refinements, "before and after"),
        ),
        report.Block("training", "Training", "", pictures=pictures(input.curves, "losses")),
        report.Block(
            "viewers",
            "Into the viewers",
            "Predicted types of every cell. In QuPath, drop the .geojson onto "
            "the open slide; in Xenium Explorer, add the .explorer.csv as cell groups.",
            links=[str(Path(p).relative_to(params.results)) for p in input.exports],
        ),
        report.Block(
            "run",
            "Run",
            "",
            tables=[report.table(run_times(params.results), "Time and memory", 1)],
            texts=[
                ("Configuration", yaml.safe_dump(params.config, sort_keys=False, allow_unicode=True)),
                *((f"Environment {Path(p).stem}", Path(p).read_text()) for p in params.envs),
                ("Versions", yaml.safe_dump({k: m.get("versions") for k, m in models.items()})),
            ],
        ),
    ]
    blocks = [b for b in blocks if b.tables or b.pictures or b.texts or b.links]
    html = report.render(
        "SHEST report",
        trained(models.values()),
        headline(scores),
        report.doubts(scores, registrations, given, models.values()),
        blocks,
    )
    if len(html) > report.LIMIT_MB * 1e6:
        raise InputError(output.html, f"the report would take {len(html) / 1e6:.0f} MB", "Report fewer samples a run")
    with files.atomic_write(output.html) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    console.log.info(f"{output.html}: {os.path.getsize(output.html) / 1e6:.1f} MB")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
