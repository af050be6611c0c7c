"""The arrays that spots are measured on, and Space Ranger's files. Light: every job asks for them."""

from pathlib import Path

DIAMETER_UM = {"st": 100.0, "visium": 55.0}
STEP_UM = {"st": (200.0, 200.0), "visium": (50.0, 50.0 * 3**0.5)}
"""µm from one array column, and one array row, to the next; a Visium row has every other column."""
SHARE = "type:"
"""Before the name of a type, in the columns with the shares of types in pseudo-spots."""
PLATFORMS = tuple(DIAMETER_UM)
SPOT_MATRIX, MATRIX_FOLDER = "filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix"
POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv")
SCALES = "scalefactors_json.json"


def visium_files(folder: str | Path) -> dict[str, str]:
    """Return the files of a Space Ranger folder that are read, by what they are.

    Of what may have several names, that which is there; else the first.
    """
    folder = Path(folder)
    positions = [folder / "spatial" / name for name in POSITIONS]
    matrices = [*sorted(folder.glob(f"*{SPOT_MATRIX}")), folder / MATRIX_FOLDER / "matrix.mtx.gz"]
    return {
        "the scale factors": str(folder / "spatial" / SCALES),
        "the positions of the spots": str(next((path for path in positions if path.is_file()), positions[0])),
        "the matrix": str(next((path for path in matrices if path.is_file()), folder / SPOT_MATRIX)),
    }
