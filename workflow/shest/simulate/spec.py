"""What is simulated: the settings of a slide and of the reference, and the random streams that they own."""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from shest.core.errors import InputError

PIXEL_SIZE = 0.2125  # µm, the morphology image of a Xenium bundle
WINDOW_UM = 16.0
MIN_UM, MAX_UM = 2.0, 16.0
MAX_MEAN_GREY = 230.0
SLIDE_FACTOR = 1.12
"""Tissue is planned for this many times the cells wanted: some nuclei stay undetected, some places are undecidable."""
BUNDLE_FILES = (
    "experiment.xenium",
    "cells.parquet",
    "cells.zarr.zip",
    "cell_feature_matrix.h5",
    "nucleus_boundaries.parquet",
    "cell_boundaries.parquet",
    "morphology_focus/morphology_focus_0000.ome.tif",
    "{name}_he_image.ome.tif",
    "{name}_he_imagealignment.csv",
    "truth/truth.parquet",
    "truth/truth.h5ad",
)
"""What every simulated bundle holds; ``{name}`` stands for the slide's."""
VISIUM_FILES = (
    "filtered_feature_bc_matrix.h5",
    "spatial/tissue_positions.csv",
    "spatial/scalefactors_json.json",
    "spatial/tissue_hires_image.png",
    "{name}_he_image.ome.tif",
    "truth/truth.h5ad",
)
"""What every simulated Visium folder holds; ``{name}`` stands for the slide's."""
PLANTED = (
    "no_counts",
    "no_nucleus",
    "two_nuclei",
    "too_small",
    "too_large",
    "outside_image",
    "window_off_image",
    "bare_glass",
)
TISSUE_SHARES = {
    "Alveolar_cell": 0.11,
    "Tumor_cell_LUAD": 0.27,
    "Macrophage": 0.07,
    "Endothelial_cell": 0.07,
    "Fibroblast": 0.20,
    "Lymphocyte": 0.25,
}
"""About the composition of the simulated tissue; the rest lies outside every type."""


@dataclass(frozen=True)
class Slide:
    """Settings of one simulated bundle.

    Attributes
    ----------
    name
        Name of the bundle's folder and run.
    platform
        ``xenium``, or ``visium``: the same cells, summed over spots.
    cells, genes
        Number of cells in the bundle (planted defects included) and of genes in its panel.
    panel
        Panel of ``resources/markers.tsv``: ``prime``, ``v1_lung`` or ``v1_io``.
    seed
        Seed of every random draw; with ``name`` it fixes every byte.
    difficulty
        0 (types far apart in shape, stain and counts) to 1 (hardly apart).
    link
        Strength of the link between image and expression within a type; 0: only the type links them.
    mpp
        H&E pixel size in µm.
    rotation, mirror
        Turn of the H&E against the Xenium frame in degrees, and whether it is mirrored first.
    stain
        Strength of the slide's own stain colour: 0 is the standard one.
    defects
        Cells planted of each kind of defect; at least one each.
    annotation
        Whether a pathologist's table is written.
    spillover
        Mean share of a cell's transcripts that is assigned to its nearest neighbours.
    disagreement
        Share of the table's cells whose group is not the true type: first of all cells with counts of others.
    coverage
        Share of the labelled cells that the table names.
    """

    name: str
    platform: str = "xenium"
    cells: int = 1500
    genes: int = 300
    panel: str = "prime"
    seed: int = 42
    difficulty: float = 0.3
    link: float = 0.5
    mpp: float = 0.2738
    rotation: float = 0.0
    mirror: bool = False
    stain: float = 1.0
    defects: int = 6
    annotation: bool = True
    spillover: float = 0.1
    disagreement: float = 0.03
    coverage: float = 0.97


@dataclass(frozen=True)
class Reference:
    """Settings of the simulated single-cell reference.

    Attributes
    ----------
    cells, genes
        Number of cells; number of genes of the largest panel, beyond which made-up genes are not needed.
    seed, difficulty
        As for a slide.
    normalised
        Whether X is log-normalised and the counts are in ``raw`` (as CELLxGENE hands LuCA out), or X holds counts.
    platform_factor
        Standard deviation of the logarithm of the factor by which the reference sees a gene better or worse than the
        slides do.
    types
        Share of each type in its cells; the rest are cells of no type. Default: about the simulated tissue's own.
    """

    cells: int = 2000
    genes: int = 300
    seed: int = 42
    difficulty: float = 0.3
    normalised: bool = False
    platform_factor: float = 0.0
    types: Mapping[str, float] = field(default_factory=lambda: dict(TISSUE_SHARES))


def slide_from_config(name: str, config: Mapping[str, Any]) -> Slide:
    """Return the settings of slide ``name`` out of the config's ``simulate`` section.

    Raises
    ------
    InputError
        Where the slide is not in the section, or a value is out of range.
    """
    slides = config.get("slides", {})
    if name not in slides:
        raise InputError(f"simulate.slides.{name}", "no such slide", f"Slides are: {', '.join(slides) or 'none'}")
    shared = {key: config[key] for key in ("seed", "difficulty", "link", "spillover") if key in config}
    slide = _filled(Slide, {"name": name, **shared, **slides[name]}, f"simulate.slides.{name}")
    needed = 10 * len(PLANTED) * slide.defects // 2
    if slide.cells < needed:
        raise InputError(
            f"simulate.slides.{name}.cells",
            f"{slide.cells} cells are too few for {slide.defects} of each of {len(PLANTED)} defects",
            f"Ask for at least {needed} cells, or for fewer defects",
        )
    return slide


def reference_from_config(config: Mapping[str, Any]) -> Reference:
    """Return the settings of the reference out of the config's ``simulate`` section."""
    shared = {key: config[key] for key in ("seed", "difficulty", "platform_factor") if key in config}
    shared["genes"] = max((s.get("genes", Slide.genes) for s in config.get("slides", {}).values()), default=0)
    reference = _filled(Reference, {**shared, **config.get("reference", {})}, "simulate.reference")
    if unknown := sorted(set(reference.types) - set(TISSUE_SHARES)):
        raise InputError(
            "simulate.reference.types", f"unknown type {unknown[0]}", f"Known types are: {', '.join(TISSUE_SHARES)}"
        )
    if sum(reference.types.values()) > 1:
        raise InputError("simulate.reference.types", "the shares are more than 1 together", "Give shares of all cells")
    return reference


def _filled(kind: type, values: dict[str, Any], where: str) -> Any:
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise InputError(f"{where}.{key}", "unknown key", f"Known keys are: {', '.join(known)}")
    for key in ("difficulty", "spillover", "disagreement", "coverage"):
        if not 0 <= values.get(key, 0) <= 1:
            raise InputError(f"{where}.{key}", f"{values[key]} is not between 0 and 1", "Give a share")
    return kind(**values)


def as_dict(spec: Slide | Reference) -> dict[str, Any]:
    """Return the settings as plain values."""
    return asdict(spec)


def pixels(spec: Slide, cells_per_mm2: float = 4300.0) -> int:
    """Return about how many pixels the picture of a slide will have: for progress."""
    return int((spec.cells * SLIDE_FACTOR + 40) / cells_per_mm2 * 1e6 / spec.mpp**2)


def stream(spec: Slide | Reference, stage: str) -> np.random.Generator:
    """Return the random generator of one stage: a stage that draws more does not shift the others."""
    name = getattr(spec, "name", "reference")
    return np.random.default_rng([spec.seed, zlib.crc32(name.encode()), zlib.crc32(stage.encode())])
