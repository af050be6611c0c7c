"""A record of checks that outlives their failure, so that rules which only wait for the checks do not run again."""

import os
import shutil
from pathlib import Path
from typing import Any

from shest.core.files import write_json


def _copy_of(record: Path) -> Path:
    return record.with_name(f".{record.name}")


def write(path: str | Path, data: Any) -> None:
    """Write a record as JSON, with a hidden copy beside it."""
    write_json(_copy_of(Path(path)), data)
    write_json(path, data)


def stand_in(path: str | Path) -> None:
    """Put back a record that is lost, with a date older than any input.

    Snakemake removes the output of a job that failed. Rules that only wait for the checks (``ancient``) would then all
    run again: of a missing file, Snakemake cannot tell that it would not matter. The checks themselves are repeated
    after a failure, since Snakemake forgets what it knew of them, and after any change of an input.
    """
    path = Path(path)
    copy = _copy_of(path)
    if copy.is_file() and not path.exists():
        shutil.copyfile(copy, path)
        os.utime(path, (1, 1))
