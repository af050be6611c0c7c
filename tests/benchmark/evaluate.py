"""Evaluation at full size: 300,000 cells and 5,001 genes, made up; time and peak memory of every part.

    cd tests && python -m benchmark.evaluate [CELLS GENES]

Counts are sparse (5 % above 0), expectations lie in an h5ad-like matrix on disk in the chunks that the rule
``predict`` writes, baselines have 1,536 features. The last line is JSON.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse
from support.memory import Peak

from shest.io.predictions import CHUNK
from shest.score import evaluate, markers, metrics
from shest.systems.linear import baselines

TYPES = ["Alveolar_cell", "Tumor_cell_LUAD", "Macrophage", "Endothelial_cell", "Fibroblast", "Lymphocyte"]
FEATURES, THREADS, DRAWS, BLOCK = 1536, 2, 200, 20_000


def make(cells: int, genes: int, path: Path) -> tuple[evaluate.Scored, np.ndarray, np.ndarray, baselines.Baselines]:
    """Make up counts, calls, places, embeddings and baselines; the expectations go to ``path``."""
    rng = np.random.default_rng(42)
    kind = rng.integers(0, len(TYPES), cells)
    level = rng.gamma(0.4, 0.15, (len(TYPES), genes))
    parts = []
    with h5py.File(path, "w") as file:
        matrix = file.create_dataset("X", (cells, genes), np.float32, chunks=CHUNK)
        for start in range(0, cells, BLOCK):
            mean = level[kind[start : start + BLOCK]]
            parts.append(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)))
            matrix[start : start + BLOCK] = mean * rng.gamma(20, 0.05, mean.shape)
    counts = sparse.vstack(parts).tocsc()
    side = 10 * np.sqrt(cells)
    xy = rng.random((cells, 2)) * side
    scored = evaluate.Scored(
        np.array(TYPES)[kind], xy, metrics.grid_blocks(xy, 500), counts, [f"G{i}" for i in range(genes)]
    )
    wrong = rng.random(cells) < 0.2
    called = np.array(TYPES)[np.where(wrong, rng.integers(0, len(TYPES), cells), kind)]
    x = rng.normal(size=(cells, FEATURES)).astype(np.float16)
    zeros, ones = np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)
    fitted = baselines.Baselines(
        zeros,
        ones,
        rng.normal(size=(FEATURES, len(TYPES))).astype(np.float32),
        np.zeros(len(TYPES), np.float32),
        rng.normal(0, 0.005, (FEATURES, genes)).astype(np.float32),
        np.zeros(genes, np.float32),
        level.astype(np.float32),
    )
    return scored, called, x, fitted


def main() -> None:
    cells, genes = (int(n) for n in sys.argv[1:3]) if len(sys.argv) > 2 else (300_000, 5_001)
    took = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "expected.h5")
        scored, called, x, fitted = make(cells, genes, path)
        print(
            f"{cells:,} cells, {genes:,} genes, {scored.counts.nnz / 1e6:.0f} M counts above 0, "
            f"{path.stat().st_size / 1e9:.1f} GB of expectations",
            flush=True,
        )

        def timed(name, work):
            begin = time.perf_counter()
            result = work()
            took[name] = round(time.perf_counter() - begin, 1)
            print(f"{name:12} {took[name]:8.1f} s", flush=True)
            return result

        with Peak() as peak, h5py.File(path) as file:
            weights = metrics.resample_blocks(int(scored.block.max()) + 1, DRAWS, 42)
            everything = np.arange(genes)
            logistic = timed("logistic", lambda: fitted.types(x).argmax(axis=1))
            read = evaluate.columns_of(file["X"], np.arange(cells), everything)
            beside = {
                "ridge": evaluate.ridge_reader(fitted, x, everything),
                "class_mean": lambda part: fitted.class_mean[:, part][logistic],
            }
            found, _ = timed("expression", lambda: evaluate.score_expression(scored, read, weights, beside, THREADS))
            timed("moran", lambda: evaluate.score_moran(scored, read))
            timed("types", lambda: evaluate.type_intervals(scored.cell_type, called, TYPES, scored.block, weights))
            timed("distances", lambda: evaluate.score_distances(scored.xy, scored.cell_type, called, TYPES))
            timed("markers", lambda: markers.scores(scored.counts, scored.cell_type, scored.genes))
    total = sum(took.values())
    said = {"cells": cells, "genes": genes, "minutes": round(total / 60, 1), "peak_gb": round(peak.megabytes / 1e3, 2)}
    print(json.dumps(said | {"median_r": round(float(found["pearson"].median()), 3), "seconds": took}))


if __name__ == "__main__":
    main()
