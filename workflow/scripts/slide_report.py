"""Writes the report of a package applied to slides: which are done, what they are made of, and what to doubt."""

from pathlib import Path

import pandas as pd
import yaml

from shest.core import console, files
from shest.draw import report, summary, view_links
from shest.score.evaluation import Evaluation

MAPS = 24  # pictures in the report; those of further slides lie in the results
SLIDES = """\
Every slide of the sheet. A slide that could not be predicted is listed with the reason; correct it and run again: only
it is repeated."""
COMPOSITION = """\
Cells of each type by their calibrated probabilities, with intervals that hold as far as these do; cells called so
beside them."""
UNLIKE = """\
Where the median cell of a slide lies among the cells that the model was trained on (quantiles; 0.5 is in the middle),
and the share of its cells beyond their outer 1 %. Far out, predictions are extrapolations."""
VIEWER = """\
Every cell of a slide over its H&E, in this browser, offline; the folder viewer can be sent, or put on a web server, as
it is."""
EXPORTS = """\
Predicted types of every cell. In QuPath, drop the .geojson onto the open slide. Mean expression of each slide:
expression.csv; composition.csv and neighbours.csv are tables for further models."""


COHORT = """\
What became of the patients, told from the predicted expression of their slides. Out of fold, genes and models are of
other patients than those they are scored on; in sample they are of the same, the published way, which promises more
than the next patient will see. 0.5 is chance."""
MEASURES = {"c_index": "c-index", "auc": "AUC"}
GENES = 10  # of the cohort, in the report


def cohort_block(paths):
    """The cohort's section: its model, its best genes and its figure; none where there is no cohort."""
    if not paths:
        return []
    genes, record = pd.read_csv(paths[0]), files.read_json(paths[1])
    links = [(name, name) for name in ("cohort.csv", "figures/cohort.pdf")]
    if "reason" in record:
        return [report.Block("cohort", "Cohort", f"Nothing is told of the cohort: {record['reason']}.")]
    measure, name = record["measure"], MEASURES[record["measure"]]
    rows = []
    for key in ("out_of_fold", "in_sample"):
        part = record[key]
        row = {"model": key.replace("_", " "), name: part[measure], "SD over repeats": part.get("deviation")}
        rows.append(row | ({"log-rank p of halves by risk": part["log_rank_p"]} if "log_rank_p" in part else {}))
    tables = [
        report.table(pd.DataFrame(rows), f"{record['patients']:,} patients, {record['slides']:,} slides", 4),
        report.table(genes.head(GENES), f"Best genes of {len(genes):,}, each alone"),
    ]
    return [
        report.Block("cohort", "Cohort", COHORT, tables, [report.picture(paths[2], "Genes and model")], links=links)
    ]


def domain_table(states):
    rows = []
    for sample, state in states.items():
        for what, place in state.get("domain", {}).items():
            rows.append(
                {"slide": sample, "of": what, "median cell at": place["median"], "share beyond": place["beyond"]}
            )
    return pd.DataFrame(rows, columns=["slide", "of", "median cell at", "share beyond"])


def times(states):
    """Seconds of every stage, a row a slide."""
    rows = [
        {"slide": s, **state["seconds"], "whole job": state["total_seconds"]}
        for s, state in states.items()
        if "seconds" in state
    ]
    return pd.DataFrame(rows)


def opening(info, states):
    done = [state for state in states.values() if state["state"] == "done"]
    cells, area = sum(s["cells"]["kept"] for s in done), sum(s["tissue_mm2"] for s in done)
    said = f"{len(done):,} of {len(states):,} slides, {cells:,} cells on {area:,.1f} mm² of tissue. "
    return said * bool(states) + summary.fitted([info])


def cards(states):
    done = [s for s in states.values() if s["state"] == "done"]
    if not states:
        return []
    seconds = sum(s["total_seconds"] for s in done)
    rate = f"{3600 * len(done) / seconds:,.0f} slides an hour" if done else ""
    return [
        {"name": "Slides done", "value": f"{len(done):,} of {len(states):,}", "note": rate},
        {"name": "Cells predicted", "value": f"{sum(s['cells']['kept'] for s in done):,}", "note": ""},
        {"name": "Slides with doubts", "value": f"{sum(bool(s['doubts']) for s in done):,}", "note": ""},
    ]


def main(input, output, params):
    states = {sample: files.read_json(path) for sample, path in zip(params.samples, input.states, strict=True)}
    info, probe = files.read_json(params.record), files.read_json(input.probe)
    evaluations = [Evaluation.read(path) for path in input.scores]

    def below(paths):
        return [str(Path(path).relative_to(params.results)) for path in paths if Path(path).is_file()]

    doubts = [f"{name}: {state['reason']}" for name, state in states.items() if state["state"] == "failed"]
    doubts += [f"{name}: {doubt}" for name, state in states.items() for doubt in state.get("doubts", [])]
    doubts += [f"The package was used although {probe['insisted']}"] if probe["insisted"] else []
    others = [f"{name} {there} there, {here} here" for name, (there, here) in probe["other_versions"].items()]
    doubts += [f"Other versions than where the model was trained: {'; '.join(others)}"] if others else []
    done = {s: params.pictures[s] for s, state in states.items() if state["state"] == "done"}
    viewed = [s for s in params.viewed if states.get(s, {}).get("state") != "failed"]
    pages = view_links.Pages({sample: ["cells"] for sample in viewed}, [info["system"]], info["protocol"])
    into = view_links.sample_links(pages, evaluations) if input.viewer else []
    composition = pd.read_csv(input.composition)  # no rows of a system that predicts no types
    maps = [report.picture(path, f"{s}: H&E, and cells by type") for s, path in list(done.items())[:MAPS]]
    blocks = [
        report.Block(
            "slides", "Slides", SLIDES, [report.table(pd.read_csv(input.slides, sep="\t"))] if states else [], maps
        ),
        report.Block(
            "composition", "Composition", COMPOSITION, [report.table(composition)] if len(composition) else []
        ),
        report.Block(
            "training", "Against the training cells", UNLIKE, [report.table(domain_table(states))] if done else []
        ),
        *cohort_block(input.cohort),
        report.Block(
            "scores",
            "Scores",
            "Samples with labels, by this package.",
            [report.table(summary.score_table(evaluations))] if evaluations else [],
        ),
        report.Block(
            "probe",
            "Probe",
            "This machine's answers to the package's own tiles.",
            [report.table(pd.DataFrame(probe["checks"]).drop(columns="why"), digits=6)],
        ),
        report.Block("viewer", "Cells over the H&E", VIEWER, links=into),
        report.Block("viewers", "Into the viewers", EXPORTS, links=[(path, path) for path in below(params.exports)]),
        report.Block(
            "run",
            "Run",
            tables=[report.table(times(states), "Seconds by stage", 1)] if done else [],
            texts=[
                ("Model card", Path(params.card).read_text(encoding="utf-8")),
                ("Configuration", yaml.safe_dump(params.config, sort_keys=False, allow_unicode=True)),
            ],
        ),
    ]
    kept = [b for b in blocks if b.tables or b.pictures or b.texts or b.links or b.id == "cohort"]
    page = report.render(
        f"{info['system']} on slides", opening(info, states), cards(states), doubts or ["Nothing found."], kept
    )
    with files.atomic_write(output.html) as tmp_path:
        tmp_path.write_text(page, encoding="utf-8")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
