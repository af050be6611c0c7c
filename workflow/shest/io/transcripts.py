"""A table of what a gene's transcripts are like, whatever tissue: share of G and C, length."""

from pathlib import Path

import pandas as pd

from shest.core.errors import Findings
from shest.io.table import read_text

PROPERTIES = {"gc": (0.0, 1.0), "length": (1.0, float("inf"))}
"""Columns of numbers, and between what they lie: ``gc`` is a share, ``length`` in nucleotides."""
REMEDY = "Give a TSV with the columns gene, gc (share of G and C, 0 to 1) and length (nucleotides)"


def read_transcripts(path: str | Path) -> pd.DataFrame:
    """Read the table, or say every problem of it.

    Returns
    -------
    ``gc`` and ``length`` by gene symbol; NaN where a field is empty.

    Raises
    ------
    InputErrors
        The table cannot be used.
    """
    findings = Findings()
    table = read_text(path, findings, REMEDY)
    lacking = [name for name in ("gene", *PROPERTIES) if name not in table]
    if lacking:
        findings.problem(path, f"lacks column {', '.join(lacking)}", REMEDY)
        findings.stop()
    twice = table["gene"][table["gene"].duplicated()]
    if len(twice):
        findings.problem(path, f"gene {twice.iloc[0]} has more than one row", "Leave one transcript a gene")
    for name, (low, high) in PROPERTIES.items():
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = (table[name].str.strip() != "") & ~values.between(low, high)
        if wrong.any():
            row = table[wrong].iloc[0]
            findings.problem(path, f"{name} of gene {row['gene']} is {row[name]}", REMEDY)
        table[name] = values
    findings.stop()
    return table.set_index("gene")[list(PROPERTIES)]
