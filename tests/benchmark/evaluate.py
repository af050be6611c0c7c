"""Evaluation of expression: the project's against a plain reference on the same numbers, and its cost at full size.

    cd tests && python -m benchmark.evaluate                  # both in turn: times, ratio, peak memory, differences
    cd tests && python -m benchmark.evaluate CELLS GENES      # the project's alone, as 1000000 1000
    cd tests && BEFORE=CHECKOUT python -m benchmark.evaluate  # another checkout of the project as a third, or second

The reference is what one writes with SciPy and pandas: gene by gene, a Spearman and a Pearson, Moran's I by the
formula that squidpy has, R within type by a grouped mean; it leaves out the medians without each spatial block, which
the project takes for its intervals. Counts are sparse (about 5 % above 0), expectations lie in an h5ad that the library
wrote, rounded and compressed. Every contestant runs in a process of its own. The last line is JSON.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.neighbors import kneighbors_graph
from support.memory import Peak

TYPES = ["Alveolar_cell", "Tumor_cell_LUAD", "Macrophage", "Endothelial_cell", "Fibroblast", "Lymphocyte"]
SCORES = ("pearson", "pearson_within_type", "spearman", "moran_actual", "moran_predicted")
THREADS, ROUNDS, SMALL, BLOCK_UM = 2, 3, (20_000, 200), 500
HERE = Path(__file__).resolve().parent.parent


def make(cells: int, genes: int, folder: Path) -> None:
    """Make up counts (CSC), labels, places and predictions (h5ad) in a folder."""
    from shest.io import predictions

    rng = np.random.default_rng(42)
    kind = rng.integers(0, len(TYPES), cells)
    level = rng.gamma(0.4, 0.15, (len(TYPES), genes)).astype(np.float32)
    xy = rng.random((cells, 2)) * 10 * np.sqrt(cells)
    counts = []

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, cells, predictions.ROWS):
            mean = level[kind[start : start + predictions.ROWS]]
            mean = mean * rng.gamma(20, 0.05, mean.shape).astype(np.float32)
            counts.append(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)))
            yield {"expected": mean, "drawn": rng.poisson(mean).astype(np.uint16)}

    names = [f"G{i}" for i in range(genes)]
    units = pd.DataFrame(
        {"x": xy[:, 0], "y": xy[:, 1], "x_um": xy[:, 0], "y_um": xy[:, 1], "part": "test", "fold": "0"}
    )
    predictions.write(folder / "p.h5ad", blocks(), units.set_axis(units.index.astype(str)), [], names, {})
    joined = sparse.vstack(counts, "csc")
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.npy", getattr(joined, name))
    np.savez(folder / "cells.npz", kind=kind, xy=xy, shape=joined.shape)


def load(folder: Path) -> tuple[sparse.csc_matrix, np.ndarray, np.ndarray, np.ndarray, ad.AnnData]:
    """Return counts, types, places, spatial blocks and opened predictions."""
    cells = np.load(folder / "cells.npz")
    parts = [np.load(folder / f"{name}.npy") for name in ("data", "indices", "indptr")]
    squares = np.floor(cells["xy"] / BLOCK_UM).astype(int)
    block = np.unique(squares, axis=0, return_inverse=True)[1].ravel()
    counts = sparse.csc_matrix(tuple(parts), shape=tuple(cells["shape"]))
    return counts, np.array(TYPES)[cells["kind"]], cells["xy"], block, ad.read_h5ad(folder / "p.h5ad", backed="r")


def project(folder: Path) -> pd.DataFrame:
    """Score by the library that is on the path, drawn counts too where it knows them."""
    from shest.score import evaluate

    counts, kind, xy, block, predicted = load(folder)
    scored = evaluate.Scored(kind, xy, block, counts, list(predicted.var_names))
    read = evaluate.columns_of(predicted.X, np.arange(len(kind)), np.arange(counts.shape[1]))
    knows = "drawn" in inspect.signature(evaluate.score_expression).parameters
    drawn = {"drawn": predicted.layers["drawn"].tocsc()} if knows else {}
    return evaluate.score_expression(scored, read, THREADS, **drawn)[0]


def reference(folder: Path) -> pd.DataFrame:
    """Score gene by gene as SciPy and pandas have it."""
    counts, kind, xy, _, predicted = load(folder)
    graph = kneighbors_graph(xy, 6) / 6
    expected, drawn = predicted.X[:], predicted.layers["drawn"].tocsc()
    rows = []

    def moran(values: np.ndarray) -> float:
        z = values - values.mean()
        return len(z) / graph.sum() * (z @ (graph @ z)) / (z @ z)

    for g in range(counts.shape[1]):
        actual, guess = counts[:, g].toarray().ravel().astype(float), expected[:, g].astype(float)
        inside = [v - pd.Series(v).groupby(kind).transform("mean").to_numpy() for v in (actual, guess)]
        rows.append(
            {
                "pearson": stats.pearsonr(actual, guess)[0],
                "pearson_within_type": stats.pearsonr(*inside)[0],
                "spearman": stats.spearmanr(actual, guess)[0],
                "moran_actual": moran(actual),
                "moran_predicted": moran(guess),
                "moran_drawn": moran(drawn[:, g].toarray().ravel().astype(float)),
            }
        )
    return pd.DataFrame(rows)


def contest(folder: Path, who: str, output: Path) -> None:
    """Run one contestant and write its time, peak memory and scores."""
    if who != "reference":
        warm()
    with Peak() as peak:
        begin = time.perf_counter()
        table = reference(folder) if who == "reference" else project(folder)
        seconds = time.perf_counter() - begin
    table.to_csv(output.with_suffix(".csv"), index=False)
    output.write_text(json.dumps({"seconds": seconds, "peak_gb": peak.megabytes / 1e3}))


def warm() -> None:
    """Compile, or read what was compiled before: once for all runs on a machine."""
    from shest.score import evaluate

    rng = np.random.default_rng(0)
    counts = sparse.csc_matrix(rng.poisson(1.0, (50, 3)).astype(np.float32))
    scored = evaluate.Scored(np.array(["A"] * 50), rng.random((50, 2)), np.arange(50) % 3, counts, list("abc"))
    for kind in (lambda part: np.ones((50, 3), np.float32)[:, part], lambda part: rng.random((50, 3))[:, part]):
        evaluate.score_expression(scored, kind)


def run(folder: Path, who: str, checkout: str | None = None) -> tuple[dict[str, float], pd.DataFrame]:
    """Run a contestant in a process of its own."""
    output = folder / f"{who}.json"
    paths = [f"{checkout}/workflow"] * bool(checkout) + [str(HERE), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "benchmark.evaluate", "--contest", who, str(folder), str(output)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, check=True, cwd=HERE, env=environment)
    return json.loads(output.read_text()), pd.read_csv(output.with_suffix(".csv"))


def compare(folder: Path) -> dict[str, object]:
    """Alternate the contestants; print their best times, peaks and how far their scores lie apart."""
    cells, genes = SMALL
    make(cells, genes, folder)
    contestants = {"project": None, "reference": None} | ({"before": b} if (b := os.environ.get("BEFORE")) else {})
    found: dict[str, list] = {who: [] for who in contestants}
    for _ in range(ROUNDS):
        for who, path in contestants.items():
            found[who].append(run(folder, who, path))
    best = {who: min(cost["seconds"] for cost, _ in runs) for who, runs in found.items()}
    peak = {who: max(cost["peak_gb"] for cost, _ in runs) for who, runs in found.items()}
    tables = {who: runs[0][1] for who, runs in found.items()}
    columns = [c for c in (*SCORES, "moran_drawn") if c in tables["project"]]
    apart = float((tables["project"][columns] - tables["reference"][columns]).abs().max().max())
    print(f"{cells:,} cells, {genes:,} genes, best of {ROUNDS}\n{'':12}{'seconds':>9}{'peak GB':>9}{'times':>9}")
    for who in contestants:
        print(f"{who:12}{best[who]:9.2f}{peak[who]:9.2f}{best[who] / best['project']:9.1f}")
    print(f"largest difference of a score: {apart:.1e}")
    return {
        "cells": cells,
        "genes": genes,
        "seconds": {who: round(value, 2) for who, value in best.items()},
        "peak_gb": {who: round(value, 2) for who, value in peak.items()},
        "times_faster": round(best["reference"] / best["project"], 1),
        "largest_difference": apart,
    }


def alone(cells: int, genes: int, folder: Path) -> dict[str, object]:
    """Time the project's evaluation at some size, and that of ``BEFORE`` after it."""
    begin = time.perf_counter()
    make(cells, genes, folder)
    took, size = time.perf_counter() - begin, (folder / "p.h5ad").stat().st_size
    print(f"{cells:,} cells, {genes:,} genes: predictions of {size / 1e9:.2f} GB made in {took:.0f} s", flush=True)
    cost, table = run(folder, "project")
    print(f"evaluated in {cost['seconds']:.0f} s, peak memory {cost['peak_gb']:.2f} GB", flush=True)
    before = {}
    if checkout := os.environ.get("BEFORE"):
        old, _ = run(folder, "before", checkout)
        print(f"by {checkout} in {old['seconds']:.0f} s, peak memory {old['peak_gb']:.2f} GB")
        before = {"before_minutes": round(old["seconds"] / 60, 2), "before_peak_gb": round(old["peak_gb"], 2)}
    return before | {
        "cells": cells,
        "genes": genes,
        "minutes": round(cost["seconds"] / 60, 2),
        "peak_gb": round(cost["peak_gb"], 2),
        "bytes_a_value": round(size / cells / genes, 3),
        "median_r": round(float(table["pearson"].median()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="*", type=int, metavar="CELLS GENES")
    parser.add_argument("--contest", nargs=3, metavar=("WHO", "FOLDER", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest:
        who, folder, output = options.contest
        contest(Path(folder), who, Path(output))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(alone(*options.size, Path(folder)) if options.size else compare(Path(folder))))


if __name__ == "__main__":
    main()
