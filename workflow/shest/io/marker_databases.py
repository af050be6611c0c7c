"""Databases of marker genes, each read into the same long table: organ, cell_type (the database's own name), gene."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from shest.core.errors import InputError, one_line

COLUMNS = ["organ", "cell_type", "gene"]
ANYWHERE = ""
"""Organ of an entry that holds in every organ."""
CANCERSEA = "Cancer cell (CancerSEA)"
"""Name under which CancerSEA's genes stand: it lists states of cancer cells, no cell types."""
REFETCH = "Fetch the file again, or leave it out of annotate.markers.databases"


def read_databases(sources: Sequence[Mapping]) -> pd.DataFrame:
    """Read several databases; ``sources``: ``format`` and ``paths`` of each. Returns COLUMNS and ``database``.

    Raises
    ------
    InputError
        A file cannot be read, lacks a column, or has no entry for human cells.
    """
    parts = [
        READERS[source["format"]](path).assign(database=source["format"])
        for source in sources
        for path in source["paths"]
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COLUMNS, "database"])


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table of one's own (TSV): cell_type, genes (separated by commas), organ (empty: any); others are notes."""
    table = _read(path, "\t", "table")
    _need(path, table, ["cell_type", "genes"], "table")
    return _long(path, table.get("organ", ""), table["cell_type"], table["genes"])


def read_panglaodb(path: str | Path) -> pd.DataFrame:
    """Read PanglaoDB's table of markers (TSV, may be .gz); only genes of human cells."""
    table = _read(path, "\t", "PanglaoDB")
    columns = ["organ", "cell type", "official gene symbol"]
    _need(path, table, [*columns, "species"], "PanglaoDB")
    human = table[table["species"].str.contains("Hs", na=False)]
    return _long(path, *(human[column] for column in columns))


def read_cellmarker(path: str | Path) -> pd.DataFrame:
    """Read CellMarker 2.0: its published table of human cells, saved as CSV or TSV, or the condensed one.

    Condensed: Tissue, CT, Gene (separated by commas). Published: tissue_class, cell_name, Symbol.
    """
    if Path(path).suffix in (".xlsx", ".xls"):
        raise InputError(path, "an Excel file", "Save it as CSV, and name that")
    table = _read(path, None, "CellMarker")
    if {"Tissue", "CT", "Gene"} <= set(table.columns):
        return _long(path, table["Tissue"], table["CT"], table["Gene"])
    columns = ["tissue_class", "cell_name", "Symbol"]
    _need(path, table, columns, "CellMarker")
    if "species" in table.columns:
        table = table[table["species"] == "Human"]
    return _long(path, *(table[column] for column in columns))


def read_cancersea(path: str | Path) -> pd.DataFrame:
    """Read one of CancerSEA's lists of genes (TSV: EnsembleID, GeneName)."""
    table = _read(path, "\t", "CancerSEA")
    _need(path, table, ["GeneName"], "CancerSEA")
    return _long(path, ANYWHERE, pd.Series(CANCERSEA, table.index), table["GeneName"])


READERS: dict[str, Callable[[str | Path], pd.DataFrame]] = {
    "table": read_table,
    "panglaodb": read_panglaodb,
    "cellmarker": read_cellmarker,
    "cancersea": read_cancersea,
}


def of_types(markers: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Make entries of the marker genes that the config gives its types itself; the type is the name."""
    rows = [(ANYWHERE, name, gene.upper(), "config") for name, genes in markers.items() for gene in genes]
    return pd.DataFrame(rows, columns=[*COLUMNS, "database"])


def read_rules(path: str | Path, columns: Sequence[str]) -> list[tuple[re.Pattern, str]]:
    """Read a TSV of two columns: a pattern (regular expression, letter case ignored), and what it stands for."""
    table = _read(path, "\t", " and ".join(columns))
    _need(path, table, columns, "table")
    try:
        patterns = [re.compile(text, re.IGNORECASE) for text in table[columns[0]].fillna("")]
    except re.error as error:
        problem = f"a pattern that is no regular expression ({one_line(error)})"
        raise InputError(path, problem, f"Correct column {columns[0]}") from None
    values = [str(value).strip() for value in table[columns[1]].fillna("")]
    if not all(p.pattern for p in patterns) or not all(values):
        raise InputError(path, "rows with an empty cell", f"Fill {columns[0]} and {columns[1]} in every row")
    return list(zip(patterns, values, strict=True))


def _read(path: str | Path, separator: str | None, what: str) -> pd.DataFrame:
    try:
        options = {"sep": separator, "dtype": str, "encoding": "utf-8-sig", "comment": None}
        return pd.read_csv(path, **options, **({"engine": "python"} if separator is None else {}))
    except Exception as error:
        raise InputError(path, f"no table of {what} that can be read ({one_line(error)})", REFETCH) from None


def _need(path: str | Path, table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        known = ", ".join(map(str, table.columns[:8]))
        raise InputError(
            path, f"no {what}: it has no column {missing[0]} (it has {known})", "Correct its format or its path"
        )


def _long(path: str | Path, organ: pd.Series | str, name: pd.Series, genes: pd.Series) -> pd.DataFrame:
    """Return one row a gene, each once; names without spaces that only look like ones, genes in capital letters."""
    table = pd.DataFrame({"cell_type": name, "gene": genes}).assign(organ=organ)
    table = table.assign(gene=table["gene"].str.split(",")).explode("gene")
    table["gene"] = table["gene"].str.strip().str.upper()
    for column in ("organ", "cell_type"):
        table[column] = table[column].fillna(ANYWHERE).str.split().str.join(" ")
    table = table[table["gene"].fillna("").ne("") & table["cell_type"].ne("")]
    if table.empty:
        raise InputError(path, "no marker gene of a human cell in it", REFETCH)
    return table[COLUMNS].drop_duplicates(ignore_index=True)
