"""The report: one HTML file that needs nothing else to open."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

TEMPLATES = Path(__file__).resolve().parent / "templates"
WIDTH_PX = 1400
LIMIT_MB = 30


@dataclass
class Picture:
    """A picture in web size: a data URL, its size, its caption, where its data lie, and views that show the same."""

    data: str
    width: int
    height: int
    caption: str
    source: str | None = None
    views: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Table:
    """Rows of text; ``numeric`` columns are set to the right."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    name: str = ""


@dataclass
class Block:
    """A section of the report.

    ``items``: sentences, one a line; ``links``: what is said of files beside the page, and their addresses from it.
    """

    id: str
    name: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)


def picture(path: str | Path, caption: str, source: str | None = None, width: int = WIDTH_PX) -> Picture:
    """Shrink a picture to web size and carry it as a data URL; drawings as palette PNG, photographs as JPEG."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    candidates = []
    for encoding, prepared, options in (
        ("png", image.quantize(256, dither=Image.Dither.NONE), {"optimize": True}),
        ("jpeg", image, {"quality": 85}),
    ):
        buffer = io.BytesIO()
        prepared.save(buffer, encoding.upper(), **options)
        candidates.append((buffer.getvalue(), encoding))
    data, encoding = min(candidates, key=lambda candidate: len(candidate[0]))
    return Picture(f"data:image/{encoding};base64,{base64.b64encode(data).decode()}", *image.size, caption, source)


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


def render(
    title: str,
    summary: str,
    cards: list[dict],
    doubts: list[str],
    blocks: list[Block],
    doubted: Sequence[tuple[str, str]] = (),
) -> str:
    """Fill the page's template; ``doubted``: what is said of views of the cells behind doubts, and their addresses."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.j2")
    sections = [(block.id, block.name) for block in blocks]
    return page.render(
        title=title, summary=summary, cards=cards, doubts=doubts, blocks=blocks, sections=sections, doubted=doubted
    )
