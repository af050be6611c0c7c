"""A synthetic slide of 30,000 × 30,000 px with 300,000 nuclei through the rules cells and tiles.

    cd tests && python -m benchmark.big_slide FOLDER [--threads 2] [--block 4096] [--keep]

Makes the store in FOLDER (some 3 GB, tiles 4 GB more), then runs the two rules' own scripts on a third of the
slide (10,000 × 30,000 px, 100,000 nuclei) and on all of it, each in a process of its own. Prints seconds, cells/s
and the peak of anonymous memory; the last line is JSON. Removes what it made unless told to keep it.
"""

import argparse
import json
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

SIDE, SPACING, MPP = 30_000, 54.7722, 0.25  # 300,000 nuclei on a jittered grid


def make(folder: Path, height: int) -> int:
    """Write a store as ingest does (H&E, nuclei, table) with its registration; return the number of nuclei."""
    import anndata
    import geopandas
    import numpy as np
    import pandas as pd
    import shapely
    import zarr

    from shest.io.outlines import write_outlines

    rng = np.random.default_rng(42)
    store = folder / "sdata.zarr"
    group = zarr.open_group(store / "images" / "he_image", mode="w")
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "s0"}]}]}
    image = group.create_array("s0", shape=(3, height, SIDE), chunks=(3, 512, 512), dtype="uint8")
    y, x = np.mgrid[:512, :SIDE].astype(np.float32)
    for top in range(0, height, 512):
        rows = min(512, height - top)
        wave = np.sin(x[:rows] / 23) + np.cos((y[:rows] + top) / 17) + np.sin((x[:rows] + y[:rows] + top) / 61)
        noise = rng.integers(-12, 12, (3, rows, SIDE), dtype=np.int16)
        image[:, top : top + rows] = np.clip(np.array([190, 140, 185])[:, None, None] + wave * 18 + noise, 0, 255)
    grid = np.stack(np.meshgrid(np.arange(SPACING / 2, SIDE, SPACING), np.arange(SPACING / 2, height, SPACING)), -1)
    centres = grid.reshape(-1, 2) + rng.uniform(-15, 15, (grid[..., 0].size, 2))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = rng.uniform(9, 18, (len(centres), 1)) * rng.uniform(0.85, 1.15, (len(centres), 24))
    rings = centres[:, None] + np.stack([np.cos(angle), np.sin(angle)], -1) * radius[..., None]
    ids = np.array([f"{n:08}-1" for n in range(len(centres))])
    frame = geopandas.GeoDataFrame({"cell_id": ids}, geometry=shapely.polygons(rings * MPP))
    (store / "shapes" / "nucleus_boundaries").mkdir(parents=True)
    frame.to_parquet(store / "shapes" / "nucleus_boundaries" / "shapes.parquet")
    write_outlines(folder / "outlines.parquet", ids, shapely.polygons(rings))
    table = anndata.AnnData(obs=pd.DataFrame({"cell_id": ids}, index=ids))
    (store / "tables").mkdir()
    table.write_zarr(store / "tables" / "table")
    to_um = [[MPP, 0, 0], [0, MPP, 0], [0, 0, 1]]
    to_he = [[1 / MPP, 0, 0], [0, 1 / MPP, 0], [0, 0, 1]]
    facts = {"he_to_um": to_um, "um_to_he": to_he, "mpp_x": MPP, "mpp_y": MPP, "rotation": 0.0, "mirror": False}
    (folder / "registration.json").write_text(json.dumps(facts))
    return len(ids)


def run_script(rule: str, folder: Path, threads: int, block: int) -> None:
    """Run a rule's script in this process, imports first, and print the seconds of its own work."""
    import pandas  # noqa: F401

    given = SimpleNamespace(
        store=folder / "sdata.zarr",
        registration=folder / "registration.json",
        cells=folder / "cells.parquet",
        outlines=folder / "outlines.parquet",
        index=folder / "tiles" / "tiles.json",
    )
    params = SimpleNamespace(limits={"min_um": 2, "max_um": 16, "max_mean_grey": 230}, window_um=16, block_px=block)
    stand_in = SimpleNamespace(
        input=given, output=given, params=params, threads=threads, log=[str(folder / f"{rule}.log")]
    )
    begin = time.perf_counter()
    runpy.run_path(str(ROOT / "workflow" / "scripts" / f"{rule}.py"), init_globals={"snakemake": stand_in})
    print(json.dumps({"seconds": time.perf_counter() - begin}))


def measure(rule: str, folder: Path, threads: int, block: int) -> tuple[float, float]:
    """Seconds and peak of anonymous memory, MB, of a rule's script in a fresh process."""
    from support.memory import Peak

    command = [
        sys.executable,
        "-m",
        "benchmark.big_slide",
        str(folder),
        "--rule",
        rule,
        "--threads",
        str(threads),
        "--block",
        str(block),
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with Peak(child.pid) as peak:
        said, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{rule} failed: see {folder / rule}.log")
    return json.loads(said.splitlines()[-1])["seconds"], peak.megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--rule", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rule:
        run_script(given.rule, given.folder, given.threads, given.block)
        return
    result = {}
    for name, height in (("third", SIDE // 3), ("whole", SIDE)):
        folder = given.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        nuclei = make(folder, height)
        total, peak = 0.0, 0.0
        for rule in ("cells", "tiles"):
            seconds, memory = measure(rule, folder, given.threads, given.block)
            total, peak = total + seconds, max(peak, memory)
            rate = nuclei / seconds
            said = f"{name}, {rule}: {nuclei:,} nuclei, {seconds:.1f} s, {rate:,.0f}/s, peak {memory:,.0f} MB"
            print(said, flush=True)
        result |= {f"nuclei_{name}": nuclei, f"seconds_{name}": round(total, 1), f"peak_mb_{name}": round(peak)}
        if not given.keep:
            shutil.rmtree(folder)
    result["ratio"] = round(result["seconds_whole"] / result["seconds_third"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
