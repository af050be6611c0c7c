"""Size of a sample whose data are still on their servers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shest.fetch import plan, sources
from shest.run.estimate import SampleSize


def size(
    planned: Mapping[str, dict], row: Mapping[str, Any], settings: Mapping[str, Any], folder: Path
) -> SampleSize | None:
    """Return the size of a bundle that is to be fetched, or None where its manifest could not be read.

    Parameters
    ----------
    planned
        What :func:`shest.fetch.plan.plan` says.
    row
        Of the sheet.
    settings
        Section ``fetch`` of the config.
    folder
        Folder of what is fetched.
    """
    bundles, path = sources.sources(settings)[1], Path(row["path"])
    item = planned.get(path.name, {}) if path.parent == folder else {}
    if path.name not in bundles or "cells" not in item:
        return None
    shape = plan.he_shape(bundles[path.name].he_image, folder, path, plan.probe_policy(settings))
    return SampleSize(row["role"], item["cells"], item["genes"], item["values"], shape)
