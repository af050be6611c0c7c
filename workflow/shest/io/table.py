"""A table that a user wrote: TSV, every field as the text that it is."""

from pathlib import Path

import pandas as pd

from shest.core.errors import Findings, one_line


def read_text(path: str | Path, findings: Findings, remedy: str) -> pd.DataFrame:
    """Read a TSV as text, empty fields as such; one that cannot be read is noted in ``findings``, which then raises."""
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        findings.problem(path, f"no table that can be read ({one_line(error)})", remedy)
        findings.stop()
        raise
