"""How a check of the input ends: with its problems, or with a record of what was seen."""

from pathlib import Path
from typing import Any

from shest.core import console
from shest.core.errors import Findings
from shest.core.files import write_json


def write(path: str | Path, seen: dict[str, Any], findings: Findings) -> None:
    """Log the warnings and write what was seen with them as JSON.

    Raises
    ------
    InputErrors
        There are problems; nothing is written.
    """
    for warning in findings.warnings:
        console.log.warning(f"WARNING {warning}")
    findings.stop()
    write_json(path, seen | {"warnings": [str(warning) for warning in findings.warnings]})
