"""The parts of a sample's SpatialData store that the stages read, without loading the whole of it."""

from pathlib import Path

import anndata
import geopandas
import numpy as np
import shapely
import zarr

from shest.core.disk import used_bytes

IMAGE, NUCLEI, SPOTS, TABLE = "he_image", "nucleus_boundaries", "spots", "table"


def stored_bytes(store: str | Path) -> dict[str, int]:
    """Measure a store: bytes on disk of its images, shapes and tables."""
    return {part: used_bytes(Path(store) / part) for part in ("images", "shapes", "tables")}


def image_scales(store: str | Path) -> list[zarr.Array]:
    """Open the H&E image: arrays (3, height, width) uint8, full size first."""
    group = zarr.open_group(Path(store) / "images" / IMAGE, mode="r")
    attributes = dict(group.attrs)
    multiscales = attributes.get("ome", attributes)["multiscales"][0]
    return [group[dataset["path"]] for dataset in multiscales["datasets"]]


def overview(store: str | Path, max_px: int = 2000) -> tuple[np.ndarray, float]:
    """Read a small H&E image for pictures.

    Returns
    -------
    image : (height, width, 3) uint8, at most ``max_px`` on its longer side
    factor : full-size pixels per overview pixel
    """
    scales = image_scales(store)
    longest = max(scales[0].shape[1:])
    fitting = [s for s in scales if max(s.shape[1:]) >= min(max_px, longest)]
    chosen = fitting[-1]
    step = -(-max(chosen.shape[1:]) // max_px)
    pixels = np.moveaxis(np.asarray(chosen[:, ::step, ::step]), 0, -1)
    return pixels, step * scales[0].shape[1] / chosen.shape[1]


def read_nuclei(store: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the outlines of all nuclei that came with the sample; none of a slide that came without.

    Returns
    -------
    cell_id : (n,) str; a cell stands there as often as it has nuclei
    outlines : (n,) shapely polygons, µm in the Xenium frame
    """
    path = Path(store) / "shapes" / NUCLEI / "shapes.parquet"
    if not path.is_file():
        return np.empty(0, dtype=str), np.empty(0, dtype=object)
    frame = geopandas.read_parquet(path)
    ids = frame["cell_id"] if "cell_id" in frame.columns else frame.index
    return np.asarray(ids, dtype=str), frame.geometry.to_numpy()


def read_circles(store: str | Path) -> np.ndarray:
    """Read the spots of a sample as circles, (n,) shapely polygons, µm; none of a sample without."""
    path = Path(store) / "shapes" / SPOTS / "shapes.parquet"
    if not path.is_file():
        return np.empty(0, dtype=object)
    frame = geopandas.read_parquet(path)
    return shapely.buffer(frame.geometry.to_numpy(), frame["radius"].to_numpy())


def transform_outlines(outlines: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a 3 x 3 affine (homogeneous x, y, 1) to shapely geometries."""
    matrix = np.asarray(matrix, dtype=float)
    return shapely.transform(outlines, lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2])


def read_cell_ids(store: str | Path) -> np.ndarray:
    """Read the ids of all cells of the sample's table, in its order, (n,) str; none where there is no table."""
    if not (Path(store) / "tables" / TABLE).is_dir():
        return np.empty(0, dtype=str)
    group = zarr.open_group(Path(store) / "tables" / TABLE, mode="r")["obs"]
    return np.array(anndata.io.read_elem(group["cell_id"]).tolist(), dtype=str)
