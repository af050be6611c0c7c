"""Writes two pages. Run by `make docs`.

docs/ledger.md out of resources/ledger.tsv: the papers' headline numbers, and what was run here.
docs/troubleshooting.md out of the code: every message that can be said, and what to do. A message is the second argument of `InputError`, and of `problem` and `warn` of findings; the third is the remedy.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "workflow" / "shest"
SAYING = {"InputError": "Errors", "problem": "Errors", "warn": "Warnings"}
HEAD = """# Troubleshooting

Bad input is said in one sentence: which file, what is wrong, what to do. Config, sheet and missing files are said before
any rule runs; what is wrong inside the files by the first rules, before anything is computed. All problems of all files
at once, and what the run will need:

```bash
make check CONFIG=config/mine.yaml
```

Below stands every message, by the part of the project that says it, with `…` for what differs. This page is written
from the code by `make docs`. Nothing found? The rule's log (`results/…/logs/RULE/`) has the whole story, a traceback
included.
"""
TAIL = """
## Not a message of this project

| what is seen | what to do |
|---|---|
| `LockException`, or "Directory cannot be locked" | A snakemake that was killed left its lock: the same command with `--unlock`, then again. |
| "IncompleteFilesException" | The same command with `--rerun-incomplete`. |
| `snakemake --configfile config/mine.yaml check` asks for a config `check` | Snakemake takes every word after `--configfile` for a config. Name the target first: `snakemake check --cores 1 --configfile config/mine.yaml`. |
| `Killed`, or exit status 137 or -9 | Out of memory. On a cluster the job is tried again with more; else lower `resources.threads` and `tiles.block_px`. |
| "Python 3.11 is needed" | `make PYTHON=/path/to/python3.11 demo`. |
"""
PARTS = {
    "run": "Config, sample sheet, checks",
    "fetch": "Fetching",
    "io": "Files",
    "labels": "Annotation, split, training cells",
    "tiles": "Tiles",
    "tissue": "Cells and registration",
    "encode": "Encoders and the cache",
    "systems": "Systems",
    "score": "Scores",
    "simulate": "The simulator",
    "view": "The viewer",
    "scripts": "Later stages",
}


def texts(node: ast.expr | None, names: dict[str, list[str]]) -> list[str]:
    """Return what an expression can say: a string, an f-string, a choice of two, a name; … for what varies."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            pieces = [texts(part, names) for part in parts]
            return ["".join(piece[0] if len(piece) == 1 else "…" for piece in pieces)]
        case ast.FormattedValue(value=ast.Name(id=name)):
            return names.get(name, [])
        case ast.IfExp(body=yes, orelse=no):
            return texts(yes, names) + texts(no, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return ["".join((texts(side, names) or ["…"])[0] for side in (left, right))]
        case ast.Name(id=name):
            return names.get(name, [])
        case ast.Call(func=ast.Name(id="did_you_mean")):
            return ["The nearest known name is said."]
    return []


def messages(path: Path, constants: dict[str, list[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield kind, message and remedy of everything that a file can say."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        names = dict(constants)
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = texts(node.value, names)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or len(node.args) != 3:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for message in texts(node.args[1], names) if name in SAYING else []:
                yield SAYING[name], message, " / ".join(texts(node.args[2], names)) or "…"


def constants(files: list[Path]) -> dict[str, list[str]]:
    """Return the texts of all modules' constants, by name: remedies that several messages share."""
    found: dict[str, list[str]] = {}
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = texts(node.value, found)
    return found


def tidy(text: str) -> str:
    """Return a text as a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    while "……" in text:
        text = text.replace("……", "…")
    return text


def page() -> str:
    """Write the page."""
    files = sorted(LIBRARY.rglob("*.py")) + sorted((LIBRARY.parent / "scripts").glob("*.py"))
    shared = constants(files)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for path in files:
        part = path.relative_to(LIBRARY).parts[0] if path.is_relative_to(LIBRARY) else "scripts"
        for kind, message, remedy in messages(path, shared):
            if tidy(message).strip("… :.") and part in PARTS:
                remedy = tidy(remedy) if remedy.strip("… .") else "The sentence says it."
                rows.setdefault((part, kind), {}).setdefault(tidy(message), remedy)
    lines = [HEAD]
    for part, title in PARTS.items():
        for kind in ("Errors", "Warnings"):
            table = rows.get((part, kind))
            if table:
                lines += [f"## {title}" if kind == "Errors" else f"## {title}: warnings, which do not stop a run", ""]
                lines += ["| message | what to do |", "|---|---|"]
                lines += [f"| `{message}` | {remedy} |" for message, remedy in sorted(table.items())]
                lines.append("")
    return "\n".join(lines).rstrip() + "\n" + TAIL


LEDGER = """# Ledger of published numbers

The headline numbers of the five papers that this project follows, what each needs, and whether it was run here.
*Published* is what the paper prints, unchecked. *Here* holds what was measured by this project, on what is said there,
and nothing else; where nothing was, what is missing. *Outside evidence* is what the published code, data or text say of
the number when they are looked at. Written by `make docs` from `resources/ledger.tsv`.

The papers: SHEST (Jeong et al. 2026, Briefings in Bioinformatics 27, bbag037), STImage (Tan et al. 2026, Nature
Communications, s41467-026-68487-0), HistoSPACE (Methods 2024; arXiv 2408.03592), ST labels (Nishimura et al. 2026,
arXiv 2604.23481), single patch (BMC Bioinformatics 2026; of the last only the abstract and the code were read).
"""


def ledger() -> str:
    """Write the page of published numbers, a section a paper."""
    rows = (HERE.parent / "resources" / "ledger.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = [row.split("\t") for row in rows]
    entries = [dict(zip(header, row, strict=True)) for row in rows]
    lines = [LEDGER]
    for paper in dict.fromkeys(entry["paper"] for entry in entries):
        lines += [f"## {paper}", ""]
        lines += ["| number | published | needs | here | outside evidence | command |", "|---|---|---|---|---|---|"]
        for entry in [e for e in entries if e["paper"] == paper]:
            command = (
                "; ".join(f"`{part}`" for part in entry["command"].split("; ")) if entry["command"] != "-" else "–"
            )
            cells = [entry[key] for key in ("claim", "published", "needs", "here", "evidence")]
            lines.append("| " + " | ".join(tidy(cell).replace(" - ", " – ") for cell in [*cells, command]) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (HERE / "ledger.md").write_text(ledger(), encoding="utf-8")
    (HERE / "troubleshooting.md").write_text(page(), encoding="utf-8")
