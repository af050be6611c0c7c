"""A sample whose viewer is built without a run: a picture of squares, cells at known places, names that are hostile."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.io.outlines import write_outlines
from shest.io.registration import Registration
from shest.view.viewer import Sample, build

HOSTILE = "<img src=x onerror=alert(1)>"
ENDING = "</script><script>alert(2)</script>"
TYPES = ["Tumour", "Lymphocyte", "Fibroblast"]
PALETTES = {
    "paper": {"Tumour": "#ff0000", "Lymphocyte": "#0000ff", "Fibroblast": "#008000"},
    "colourblind": {"Tumour": "#0072b2", "Lymphocyte": "#d55e00", "Fibroblast": "#009e73"},
}
GENES = ["EPCAM", HOSTILE, "CD3E", ENDING]
SQUARE = 100  # px of a square of the picture
MPP = 0.5


def picture(height: int, width: int) -> np.ndarray:
    """Squares whose colour tells where they are: (3, height, width) uint8."""
    y, x = np.indices((height, width)) // SQUARE
    return np.stack([120 + 10 * x, 120 + 10 * y, np.full_like(x, 200)]).astype(np.uint8)


def sample(folder, name="s1", n=180, size=(900, 1300), seed=0) -> Sample:
    """Cells 70 px apart in rows of 18, and one without a nucleus; predictions of two systems."""
    rng = np.random.default_rng(seed)
    places = np.stack([np.arange(n) % 18, np.arange(n) // 18], axis=1) * 70.0 + 50
    ids = [f"cell{i:03d}-1" for i in range(n)] + ["lost-1"]
    ids[5], ids[6] = HOSTILE, ENDING
    kept = rng.random(n) < 0.9
    kept[[3, 4, 5, 6]] = True
    cells = pd.DataFrame(
        {
            "cell_id": ids,
            "x": [*places[:, 0], np.nan],
            "y": [*places[:, 1], np.nan],
            "width_um": [*rng.uniform(4, 9, n), np.nan],
            "height_um": [*rng.uniform(4, 9, n), np.nan],
            "mean_grey": [*rng.uniform(90, 200, n), np.nan],
            "kept": [*kept, False],
            "reason": [*np.where(kept, "kept", "too_large"), "no_nucleus"],
        }
    )
    label = pd.Series(rng.choice(TYPES, n + 1)).where(rng.random(n + 1) < 0.8)
    annotation = pd.DataFrame(
        {
            "cell_id": ids,
            "subtype": [HOSTILE if i % 2 else "T cell" for i in range(n + 1)],
            "score": rng.random(n + 1),
            "cell_type": label,
            "reason": np.where(label.notna(), "labelled", "other_type"),
        }
    ).sample(frac=1, random_state=1)
    circle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radius = 6 / MPP
    import shapely

    rings = [
        shapely.Polygon(np.stack([x + radius * np.cos(circle), y + radius * np.sin(circle)], axis=1)) for x, y in places
    ]
    write_outlines(folder / "outlines.parquet", np.array(ids[:-1], dtype=object), np.array(rings))
    predicted = cells.index[cells["kept"]].to_numpy()
    neighbours = np.full((n + 1, 2), -1)
    neighbours[:-1] = (np.arange(n)[:, None] + [1, 2]) % n
    return Sample(
        name=name,
        table=cells,
        annotation=annotation,
        predictions={system: predictions([ids[i] for i in predicted], rng) for system in ("one", "two")},
        registration=Registration.of_alignment(np.diag([MPP, MPP, 1]), 1.0),
        scales=[picture(*size)],
        outlines=folder / "outlines.parquet",
        store=None,
        types=TYPES,
        palettes=PALETTES,
        protocol="strict",
        neighbours=neighbours,
    )


def predictions(ids, rng) -> ad.AnnData:
    probabilities = rng.dirichlet(np.ones(3), len(ids)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(probabilities.argmax(axis=1), TYPES),
            "probability": probabilities.max(axis=1),
            "entropy": rng.random(len(ids)).astype(np.float32),
            "disagreement": np.full(len(ids), np.nan, np.float32),
            "aleatoric": np.full(len(ids), np.nan, np.float32),
            "epistemic": rng.random(len(ids)).astype(np.float32),
            "part": "test",
        },
        index=ids,
    )
    expected = rng.gamma(1, 2, (len(ids), len(GENES))).astype(np.float32)
    found = ad.AnnData(expected, obs, pd.DataFrame(index=GENES), obsm={"probabilities": probabilities})
    found.uns |= {"classes": TYPES, "gene_ids": [""] * len(GENES)}
    return found


SPOT_UM = 55.0
SPOT_STEP = 140  # px from one spot to the next


def spots(folder, name="s1", size=(900, 1300), seed=1) -> Sample:
    """Spots in rows of 8, some of which left; a system that expects genes, and counts of three of the genes."""
    rng, n = np.random.default_rng(seed), 48
    places = np.stack([np.arange(n) % 8, np.arange(n) // 8], axis=1) * SPOT_STEP + 90.0
    ids = [f"{c}x{r}" for r in range(6) for c in range(8)]
    ids[5] = HOSTILE
    kept = np.arange(n) % 7 != 3
    tumour = rng.random(n)
    table = pd.DataFrame(
        {
            "spot_id": ids,
            "x": places[:, 0],
            "y": places[:, 1],
            "diameter_um": SPOT_UM,
            "array_row": np.arange(n) // 8,
            "array_col": np.arange(n) % 8,
            "tissue": np.where(kept, rng.uniform(0.5, 1, n), 0.1),
            "kept": kept,
            "reason": np.where(kept, "kept", "little_tissue"),
            "n_cells": rng.integers(1, 40, n),
            "type:Tumour": tumour,
            f"type:{HOSTILE}": 1 - tumour,
        }
    )
    names = [i for i, one in zip(ids, kept, strict=True) if one]
    found = predictions(names, rng)
    del found.obsm["probabilities"]
    found.obsm["probabilities"] = np.empty((len(names), 0), np.float32)
    found.obs["cell_type"] = pd.Categorical.from_codes(np.full(len(names), -1), [])
    for measure in ("probability", "entropy"):
        found.obs[measure] = np.float32(np.nan)
    found.uns["classes"] = []
    counts = sparse.csr_matrix(rng.poisson(3, (n, 3)).astype(np.float32))
    (folder / "spots.zarr/tables").mkdir(parents=True)
    obs = pd.DataFrame({"spot_id": ids}, index=[str(i) for i in range(n)])
    ad.AnnData(counts, obs, pd.DataFrame(index=GENES[:3])).write_zarr(folder / "spots.zarr/tables/table")
    return Sample(
        name=name,
        table=table,
        annotation=None,
        predictions={"spotty": found},
        registration=Registration.of_alignment(np.diag([MPP, MPP, 1]), 1.0),
        scales=[picture(*size)],
        outlines=None,
        store=folder / "spots.zarr",
        types=TYPES,
        palettes=PALETTES,
        protocol="strict",
        window_um=SPOT_UM,
        unit="spots",
        neighbours=np.array([[(i + 1) % n] for i in range(n)]),
    )


def write(folder, *shown: Sample, **options) -> dict:
    """Build the viewer of a sample's units into a folder."""
    return build(folder, shown, **{"max_mpp": 0.5, "genes": "all"} | options)
