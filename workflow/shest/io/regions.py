"""A pathologist's regions of a section in spots: a table that names the region of each spot."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.core.errors import InputError, one_line

REMEDY = "Give a TSV with the columns x and y (of the array; they are rounded) or spot_id, and label"


def read_regions(path: str | Path) -> pd.Series:
    """Read regions by spot, ``13x21`` (column and row of the array) or what ``spot_id`` says.

    Pixels that such a table has beside them may be of another image, and are not looked at. Rows without a label, or
    without a place, say nothing and are left out.

    Raises
    ------
    InputError
        The table cannot be read, or names a spot twice.
    """
    try:
        table = pd.read_csv(path, sep="\t")
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(path, f"no table that can be read ({one_line(error)})", REMEDY) from None
    by_name = "spot_id" in table
    lacking = [name for name in (["label"] if by_name else ["x", "y", "label"]) if name not in table]
    if lacking:
        raise InputError(path, f"lacks column {', '.join(lacking)}", REMEDY)
    if by_name:
        table = table.dropna(subset=["spot_id", "label"])
        spots = table["spot_id"].astype(str)
    else:
        table[["x", "y"]] = table[["x", "y"]].apply(pd.to_numeric, errors="coerce")
        table = table.dropna(subset=["x", "y", "label"])
        place = np.rint(table[["x", "y"]].to_numpy(float)).astype(int)
        spots = pd.Series([f"{x}x{y}" for x, y in place], dtype=object)
    if spots.duplicated().any():
        raise InputError(path, f"spot {spots[spots.duplicated()].iloc[0]} stands there twice", "Leave one row a spot")
    return pd.Series(table["label"].astype(str).to_numpy(), index=spots.to_numpy(), name="label")
