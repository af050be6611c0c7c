"""A tiny simulated bundle and ways to spoil its files, for the tests of bad input and of bundle layouts."""

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
import zarr

from shest.simulate.profiles import read_markers
from shest.simulate.reference import make_reference, write_reference
from shest.simulate.slide import simulate_slide
from shest.simulate.spec import reference_from_config, slide_from_config

MARKERS = Path(__file__).parents[2] / "resources" / "markers.tsv"
SUBTYPES = {
    "Tumor_cell_LUAD": ["Tumor cells LUAD", "Tumor cells LUAD EMT"],
    "Lymphocyte": ["B cell", "Plasma cell", "T cell CD4", "NK cell"],
    "Macrophage": ["Macrophage"],
}


def simulate(folder: Path, name: str = "a", seed: int = 42, **settings) -> Path:
    """Write a bundle of 120 cells, with the pathologist's table cut down to the types of ``SUBTYPES``."""
    slide = {"cells": 120, "genes": 80, "defects": 2, "seed": seed} | settings
    config = {"seed": 42, "difficulty": 0.3, "link": 0.5, "slides": {name: slide}}
    simulate_slide(slide_from_config(name, config), read_markers(MARKERS), folder / name)
    table = pd.read_csv(folder / name / "he_annotation.csv", dtype=str)
    table[table["group"].isin(list(SUBTYPES))].to_csv(folder / name / "he_annotation.csv", index=False)
    return folder / name


def simulate_reference(path: Path) -> None:
    """Write a reference of 300 cells."""
    config = {"seed": 42, "difficulty": 0.3, "reference": {"cells": 300}}
    write_reference(path, make_reference(read_markers(MARKERS), reference_from_config(config)))


def copy(bundle: Path, folder: Path) -> Path:
    """Copy a bundle by hard links; :func:`overwrite` and the functions below break the link they change."""
    return Path(shutil.copytree(bundle, folder / bundle.name, copy_function=os.link))


def overwrite(path: Path, content: bytes) -> None:
    """Write a file anew, so that a hard link elsewhere keeps the old content."""
    path.unlink()
    path.write_bytes(content)


def he_image(bundle: Path) -> Path:
    return bundle / f"{bundle.name}_he_image.ome.tif"


def alignment(bundle: Path) -> Path:
    return bundle / f"{bundle.name}_he_imagealignment.csv"


def set_alignment(bundle: Path, matrix: np.ndarray) -> None:
    """Write another alignment."""
    alignment(bundle).unlink()
    np.savetxt(alignment(bundle), matrix, delimiter=",")


def identity(bundle: Path) -> np.ndarray:
    """An alignment that turns nothing, as if nobody had registered the image: its cells lie on it all the same."""
    matrix = np.loadtxt(alignment(bundle), delimiter=",")
    with tifffile.TiffFile(he_image(bundle)) as tiff:
        height, width = tiff.series[0].shape[:2]
    size, centre = np.linalg.norm(matrix[:2, 0]), np.array([width, height]) / 2
    plain = np.diag([size, size, 1.0])
    plain[:2, 2] = matrix[:2, :2] @ centre + matrix[:2, 2] - size * centre
    return plain


def set_specs(bundle: Path, **changes) -> None:
    """Change keys of experiment.xenium; None removes one."""
    path = bundle / "experiment.xenium"
    specs = json.loads(path.read_text()) | changes
    overwrite(path, json.dumps({k: v for k, v in specs.items() if v is not None}).encode())


def set_table(path: Path, change) -> None:
    """Rewrite a parquet file with what ``change`` makes of its table."""
    table = change(pd.read_parquet(path))
    path.unlink()
    table.to_parquet(path, index=False)


def set_matrix(bundle: Path, change) -> None:
    """Change the count matrix: ``change`` is given the open h5py file."""
    path = bundle / "cell_feature_matrix.h5"
    overwrite(path, path.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)


def set_archive(bundle: Path, change) -> None:
    """Change cells.zarr.zip: ``change`` is given the open zarr group."""
    path = bundle / "cells.zarr.zip"
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        change(zarr.open_group(folder, mode="r+", zarr_format=2))
        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))


def replace(group, name: str, values: np.ndarray) -> None:
    """Put an array in place of a dataset of an h5py file or an array of a zarr group."""
    if name in group:
        del group[name]
    if isinstance(group, zarr.Group):
        group.create_array(name, data=values)
    else:
        group[name] = values


def truncate(path: Path, share: float) -> None:
    """Keep the first ``share`` of a file's bytes."""
    content = path.read_bytes()
    overwrite(path, content[: int(len(content) * share)])


def layout_1(bundle: Path, version: str = "xenium-1.9.0.1") -> None:
    """Xenium Onboard Analysis 1.3 to 1.9: one nucleus a cell at most, without a number; seg_mask_value."""
    set_specs(bundle, major_version=3, analysis_sw_version=version)

    def archive(group):
        del group["polygon_sets"]
        n = group["cell_id"].shape[0]
        replace(group, "seg_mask_value", np.arange(1, n + 1, dtype=np.uint32))
        columns = group["cell_summary"].attrs["column_names"][:7]
        replace(group, "cell_summary", group["cell_summary"][:, :7])
        group["cell_summary"].attrs["column_names"] = columns

    set_archive(bundle, archive)
    first = pd.read_parquet(bundle / "nucleus_boundaries.parquet").groupby("cell_id")["label_id"].transform("min")
    set_table(bundle / "nucleus_boundaries.parquet", lambda t: t[t["label_id"] == first].drop(columns="label_id"))
    set_table(bundle / "cells.parquet", lambda t: t.drop(columns=["nucleus_count", "segmentation_method"]))
    for name in ("cells", "nucleus_boundaries"):  # in bytes, as early files have them
        set_table(bundle / f"{name}.parquet", lambda t: t.assign(cell_id=t["cell_id"].str.encode("utf-8")))


def layout_before_1_3(bundle: Path) -> None:
    """Xenium Onboard Analysis 1.0: cells are numbered from 1."""
    layout_1(bundle, "xenium-1.0.2")
    names = pd.read_parquet(bundle / "cells.parquet")["cell_id"].tolist()
    number = {name: i for i, name in enumerate(names, start=1)}
    for name in ("cells", "nucleus_boundaries"):
        set_table(bundle / f"{name}.parquet", lambda t: t.assign(cell_id=t["cell_id"].map(number)))
    set_matrix(bundle, lambda f: replace(f["matrix"], "barcodes", np.arange(1, len(names) + 1).astype("S")))

    def archive(group):
        del group["seg_mask_value"]
        replace(group, "cell_id", np.arange(1, len(names) + 1, dtype=np.uint32))

    set_archive(bundle, archive)


def layout_2(bundle: Path) -> None:
    """Xenium Onboard Analysis 2.0, later builds."""
    set_specs(bundle, major_version=5, analysis_sw_version="xenium-2.0.0.10")
    set_table(bundle / "cells.parquet", lambda t: t.drop(columns=["segmentation_method", "genomic_control_counts"]))


def layout_early_2(bundle: Path) -> None:
    """Xenium Onboard Analysis 2.0.0, early builds: nuclei without a number."""
    set_specs(bundle, major_version=5, analysis_sw_version="xenium-2.0.0.6-35-ga7e17149a")
    set_table(bundle / "nucleus_boundaries.parquet", lambda t: t.drop(columns="label_id"))


def layout_4(bundle: Path, version: str = "xenium-4.0.1.0") -> None:
    """Xenium Onboard Analysis 4.0: channels named in the morphology folder, protein features among the genes."""
    set_specs(bundle, major_version=7, analysis_sw_version=version)
    focus = bundle / "morphology_focus"
    (focus / "morphology_focus_0000.ome.tif").rename(focus / "ch0000_dapi.ome.tif")

    def matrix(file):
        file.attrs["protein_scaling_factor"] = 100.0
        kind = file["matrix/features/feature_type"][:].astype("S24")
        kind[kind != b"Gene Expression"] = b"Protein Expression"
        replace(file["matrix/features"], "feature_type", kind)

    set_matrix(bundle, matrix)


def resegmented(bundle: Path) -> None:
    """Xenium Ranger 3.0 over a run of 1.6: its version tells the layout."""
    set_specs(bundle, analysis_sw_version="xenium-1.6.0.7", xenium_ranger={"version": "xenium-3.0.1.1"})


def simulate_visium(folder: Path, name: str = "v", **settings) -> Path:
    """Write a Visium folder of a simulated section."""
    config = {"seed": 42, "difficulty": 0.3, "link": 0.5, "slides": {name: {"platform": "visium"} | settings}}
    simulate_slide(slide_from_config(name, config), read_markers(MARKERS), folder / name)
    return folder / name
