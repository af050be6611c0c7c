"""The table of a cohort: whose slide each sample is, and what became of the patient."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from shest.core.errors import Findings, did_you_mean
from shest.io.table import read_text

SURVIVAL, RESPONSE = ["time", "event"], ["response"]
REMEDY = "Give a TSV with the columns sample, patient, and either time and event, or response"


def read_cohort(path: str | Path, samples: Collection[str]) -> pd.DataFrame:
    """Read the table of a cohort, or say every problem of it.

    Parameters
    ----------
    path
        TSV with the columns ``sample``, ``patient``, and either ``time`` (until the event or the end of observation,
        in any unit, 0 or more) and ``event`` (1, or 0 where it was not seen), or ``response`` (0 or 1).
    samples
        The slides that there are.

    Returns
    -------
    A row a slide: ``sample``, ``patient``, and either ``time`` and ``event`` or ``response``.

    Raises
    ------
    InputErrors
        The table cannot be used.
    """
    findings = Findings()
    table = read_text(path, findings, REMEDY)
    _check_columns(path, table, findings)
    findings.stop()
    outcome = RESPONSE if "response" in table else SURVIVAL
    table = table[["sample", "patient", *outcome]].map(str.strip)
    for column in ("sample", "patient"):
        if (table[column] == "").any():
            findings.problem(path, f"column {column} is empty in {(table[column] == '').sum():,} rows", "Fill it in")
    for sample in table["sample"][table["sample"].duplicated()].unique():
        findings.problem(path, f"sample {sample} has more than one row", "Leave one")
    for sample in [name for name in table["sample"] if name and name not in samples]:
        findings.problem(path, f"sample {sample} is no slide of the sheet", did_you_mean(sample, samples))
    for column in outcome:
        table[column] = _numbers(path, table, column, findings)
    findings.stop()
    several = table.groupby("patient")[outcome].nunique().gt(1).any(axis=1)
    for patient in several.index[several]:
        problem = f"patient {patient} has more than one {' and '.join(outcome)}"
        findings.problem(path, problem, "Give all slides of a patient the same outcome")
    findings.stop()
    return table.reset_index(drop=True)


def _check_columns(path: str | Path, table: pd.DataFrame, findings: Findings) -> None:
    """Note columns that lack, and two kinds of outcome at once."""
    survival, response = (set(columns) & set(table) for columns in (SURVIVAL, RESPONSE))
    if survival and response:
        findings.problem(path, "has the columns of survival and of response", "Leave one outcome")
    wanted = ["sample", "patient", *([] if response else SURVIVAL)]
    lacking = [column for column in wanted if column not in table]
    if lacking:
        findings.problem(path, f"lacks column {', '.join(lacking)}", REMEDY)
    elif table.empty:
        findings.problem(path, "has no rows", REMEDY)


def _numbers(path: str | Path, table: pd.DataFrame, column: str, findings: Findings) -> pd.Series:
    """Return a column as numbers, and note what are none that it can hold."""
    values = pd.to_numeric(table[column], errors="coerce")
    finite = np.isfinite(values)
    good, what = (
        (finite & values.ge(0), "a number that is 0 or more")
        if column == "time"
        else (finite & values.isin([0, 1]), "0 or 1")
    )
    if not good.all():
        row = table[~good].iloc[0]
        said = f"{column} of sample {row['sample']} is {row[column] or 'empty'}, not {what}"
        findings.problem(path, said, "Correct it, or leave the sample out")
    return values if column == "time" else values.fillna(0).astype(int)
