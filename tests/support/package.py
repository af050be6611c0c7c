"""A package that is whole, of a system that looks at nothing: for what must be known of packages before any is made."""

from pathlib import Path

import numpy as np

from shest.run import packages


def write(folder: Path) -> Path:
    """Write it below a folder; return where it lies."""
    (folder / "weights").write_text("")
    (folder / "card.md").write_text("# none\n")
    info = {
        "system": "mean",
        "kind": "mean",
        "encoder": None,
        "protocol": "strict",
        "settings": {},
        "classes": ["a", "b"],
        "genes": ["g"],
        "package": {
            "format": packages.FORMAT,
            "encoder": None,
            "window_um": 16,
            "cells": {"min_um": 2, "max_um": 16, "max_mean_grey": 230},
            "cell_types": {"a": {"subtypes": ["a1"]}, "b": {"subtypes": ["b1"]}},
        },
    }
    parts = {packages.MODEL: folder / "weights", packages.CARD: folder / "card.md"}
    packages.write(folder / "package", parts, info, {"windows": np.zeros((1, 2, 2, 3), np.uint8)})
    return folder / "package"
