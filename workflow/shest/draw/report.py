"""The report: one HTML file that needs nothing else to open."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

TEMPLATES = Path(__file__).resolve().parent / "templates"
WIDTH_PX = 1400
LIMIT_MB = 30
CAPTIONS = {
    "2": "nuclei and tiles of the training sample; its cells before and after refinement",
    "4": "internal test: types, and expression by gene and by marker",
    "5": "types of the first external sample, beside other systems; distances between types",
    "6": "annotated types, predicted types and H&E of the external samples",
    "7": "expression of the first external sample: best genes, markers by type, maps",
    "8": "Moran's I of the first external sample, actual against reconstructed",
    "S1": "types of the second external sample, as figure 5",
    "S2": "tiles of cells told right and of cells confused",
    "S3": "expression of the second external sample, as figure 7",
    "S4": "Moran's I of the second external sample, as figure 8",
}


@dataclass
class Picture:
    """A picture in web size: a data URL, its size, its caption, and where its data lie."""

    data: str
    width: int
    height: int
    caption: str
    source: str | None = None


@dataclass
class Table:
    """Rows of text; ``numeric`` columns are set to the right."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    name: str = ""


@dataclass
class Block:
    """A section of the report; ``links``: files beside the page, by their paths from it."""

    id: str
    name: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def picture(path: str | Path, caption: str, source: str | None = None, width: int = WIDTH_PX) -> Picture:
    """Shrink a picture to web size and carry it as a data URL; drawings as palette PNG, photographs as JPEG."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    candidates = []
    for kind, prepared, options in (
        ("png", image.quantize(256, dither=Image.Dither.NONE), {"optimize": True}),
        ("jpeg", image, {"quality": 85}),
    ):
        buffer = io.BytesIO()
        prepared.save(buffer, kind.upper(), **options)
        candidates.append((buffer.getvalue(), kind))
    data, kind = min(candidates, key=lambda c: len(c[0]))
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *image.size, caption, source)


def table(frame: pd.DataFrame, name: str = "", digits: int = 3) -> Table:
    """Turn a frame into text: whole numbers with thousands separators, others with ``digits`` decimals."""
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns]

    def text(value: object) -> str:
        if value is None or (isinstance(value, float) and pd.isna(value)):
            return "–"
        if isinstance(value, float) and not value.is_integer():
            return f"{value:.{digits}f}"
        return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

    rows = [[text(v) for v in row] for row in frame.astype(object).itertuples(index=False)]
    return Table([str(c) for c in frame.columns], rows, numeric, name)


def score_table(scores: list[dict]) -> pd.DataFrame:
    """One row an evaluation: the heads beside their baselines."""
    rows = []
    for s in scores:
        low, high = s["intervals"].get("weighted") or (None, None)
        rows.append(
            {
                "sample": s["sample"],
                "role": s["role"],
                "encoder": s["encoder"],
                "protocol": s["protocol"],
                "cells": s["n_cells"],
                "F1 weighted": s["f1"]["weighted"],
                "95 % interval": f"{low:.3f}–{high:.3f}" if low is not None else "–",
                "logistic": s["baselines"]["logistic"]["f1"]["weighted"],
                "F1 macro": s["f1"]["macro"],
                "logistic macro": s["baselines"]["logistic"]["f1"]["macro"],
                "median R": s["pearson"]["median"],
                "genes R > 0.3": s["pearson"]["share_above_0.3"],
                "ridge": s["baselines"]["ridge"]["pearson"]["median"],
                "class mean": s["baselines"]["class_mean"]["pearson"]["median"],
                "Moran's I, correlation": s["moran"]["correlation"],
                "calibration error": (s["calibration"] or {}).get("ece_after"),
            }
        )
    return pd.DataFrame(rows)


def comparator_tables(scores: list[dict]) -> list[Table]:
    """One row for each other system and evaluation: its scores on the cells that it found, and ours on the same."""
    rows = [
        {
            "sample": s["sample"],
            "protocol": s["protocol"],
            "system": name,
            "scored cells found": found["n_matched"],
            "share": found["share_matched"],
            "F1 weighted": found["f1"]["weighted"],
            "ours, same cells": found["ours"]["f1"]["weighted"],
            "F1 macro": found["f1"]["macro"],
            "ours, same cells, macro": found["ours"]["f1"]["macro"],
        }
        for s in scores
        for name, found in s["comparators"].items()
        if found["n_matched"]
    ]
    return [table(pd.DataFrame(rows), "Other systems")] if rows else []


def doubts(
    scores: list[dict], registrations: dict[str, dict], tables_given: dict[str, bool], models: Iterable[dict]
) -> list[str]:
    """List what a careful reader should doubt in these results, in plain sentences."""
    said = [
        f"{m['encoder']}, {m['protocol']}: too few training cells of {', '.join(m['classes_left_out'])}; the model "
        "does not know them, and each of their cells counts as an error."
        for m in models
        if m["classes_left_out"]
    ]
    for s in scores:
        where = f"{s['sample']} ({s['encoder']}, {s['protocol']})"
        head, logistic = s["f1"]["weighted"], s["baselines"]["logistic"]["f1"]["weighted"]
        if head < logistic:
            said.append(
                f"{where}: the type head does not beat logistic regression on the same embeddings "
                f"({head:.3f} against {logistic:.3f})."
            )
        best = max(s["baselines"][b]["pearson"]["median"] for b in ("ridge", "class_mean"))
        if s["pearson"]["median"] < best:
            said.append(
                f"{where}: the expression head does not beat its baselines "
                f"(median R {s['pearson']['median']:.3f} against {best:.3f})."
            )
        missing = [t for t, v in s["f1"]["per_class"].items() if v is None]
        if missing:
            said.append(f"{where}: no scored cell of {', '.join(missing)}; nothing can be said of them.")
    for sample, found in registrations.items():
        if found["share_on_tissue"] < 0.8:
            share = found["share_on_tissue"]
            said.append(f"{sample}: only {share:.0%} of the nuclei lie on tissue; check the registration.")
    without = [sample for sample, given in tables_given.items() if not given]
    if without:
        said.append(
            f"{', '.join(without)}: labels are TACCO's alone, no pathologist's table was given; "
            "a score against them tells how well a label of expression is met, not whether it is right."
        )
    if any(s["protocol"] == "paper" for s in scores):
        said.append(
            "The paper protocol tests cells whose windows overlap training windows: its scores on training "
            "samples measure memory as well. The strict score is the one to expect on new tissue."
        )
    return said or ["Nothing stands out. That is no proof."]


def render(title: str, summary: str, cards: list[dict], doubtful: list[str], blocks: list[Block]) -> str:
    """Fill the page's template."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.j2")
    sections = [(block.id, block.name) for block in blocks]
    return page.render(title=title, summary=summary, cards=cards, doubts=doubtful, blocks=blocks, sections=sections)
