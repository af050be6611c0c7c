"""A painted slide with nuclei of two types, stored as the rules store a slide."""

from pathlib import Path

import numpy as np
import shapely
import zarr
from scipy import ndimage, sparse

from shest.io.outlines import write_outlines
from shest.io.registration import Registration
from shest.labels.training_set import TrainingSet
from shest.score.segmentation import _draw
from shest.systems.sources import open_source

MPP = 0.5
SMALL, LARGE = 0, 1


def nuclei(shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Round nuclei on a shaken grid of 24 px, and their types: small and dark, or large and pale."""
    rng = np.random.default_rng(seed)
    height, width = shape
    grid = np.stack(np.meshgrid(np.arange(20, width - 16, 24), np.arange(20, height - 16, 24)), -1).reshape(-1, 2)
    label = rng.integers(0, 2, len(grid))
    radius = np.where(label == SMALL, rng.uniform(4.5, 5.5, len(grid)), rng.uniform(7.5, 9, len(grid)))
    return shapely.buffer(shapely.points(grid + rng.uniform(-3, 3, grid.shape)), radius), label


def paint(shape: tuple[int, int], polygons: np.ndarray, label: np.ndarray, seed: int = 0) -> np.ndarray:
    """Haematoxylin nuclei on eosin, (3, h, w) uint8."""
    rng = np.random.default_rng(seed)
    drawn = _draw(shapely.STRtree(polygons), (0, 0, shape[1], shape[0]))
    dense = np.concatenate([[0], np.where(label == SMALL, 1.2, 0.7)])[drawn]
    density = np.stack([0.1 + ndimage.gaussian_filter(dense, 0.7), 0.3 + 0.1 * rng.random(shape)], -1)
    stains = np.array([[0.584, 0.758, 0.289], [0.227, 0.862, 0.452]])
    values = 255 * np.exp(-density @ stains) + rng.normal(0, 4, (*shape, 3))
    return np.moveaxis(np.clip(values, 0, 255).astype(np.uint8), -1, 0)


def write(folder: Path, image: np.ndarray, ids: np.ndarray, polygons: np.ndarray) -> list[str]:
    """Write a sample as the rules do; return what a system that reads the slide is given of it."""
    group = zarr.open_group(folder / "sdata.zarr" / "images" / "he_image", mode="w")
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    group.create_array("0", data=image, chunks=(3, 256, 256))
    write_outlines(folder / "outlines.parquet", ids, polygons)
    Registration.of_alignment(np.eye(3), MPP).write(folder / "registration.json")
    return [str(folder / name) for name in ("sdata.zarr", "outlines.parquet", "registration.json")]


def training_set(paths: list[str], ids: np.ndarray, part: np.ndarray, label: np.ndarray) -> TrainingSet:
    """Units of one sample; counts follow the type. ``part``: train, val, test, or empty for a unit of none."""
    sample = Path(paths[0]).parent.name
    rows = np.flatnonzero(np.isin(part, ["train", "val"]))
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.array([[1.0, 6.0, 3.0], [6.0, 1.0, 3.0]])[label[rows]])
    return TrainingSet(
        open_source("slide", paths, [(sample, ids[i]) for i in rows]),
        sparse.csr_matrix(counts.astype(np.float32)),
        np.ones((1, 3), bool),
        np.zeros(len(rows), np.int64),
        label[rows].astype(np.int64),
        np.flatnonzero(part[rows] == "train"),
        np.flatnonzero(part[rows] == "val"),
        ["small", "large"],
        ["a", "b", "c"],
        [(sample, ids[i]) for i in np.flatnonzero(part == "test")],
    )
