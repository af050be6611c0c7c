"""The browser viewer of a synthetic slide: what its build takes; first view, frames and memory in Chromium.

    cd tests && python -m benchmark.viewer FOLDER [--side 40000] [--cells 1000000] [--genes 50] [--keep]

The slide is real tissue repeated (the bundle colon_train of SHEST_KIT, where it is there), stored as the rules store
one; cells lie on a jittered grid, with outlines of 16 vertices, two systems, counts and embeddings. Chromium runs
headless with WebGL on the CPU and opens the page from disk; frames are counted while the mouse drags the view and while
its wheel zooms, and the CPU time of all its processes beside them. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import shapely
import zarr
from scipy import sparse
from support import browser
from support.memory import Peak

from benchmark.segment import read_slide, write_pyramid
from shest.core.disk import used_bytes
from shest.io import predictions
from shest.io.outlines import write_outlines
from shest.io.registration import Registration
from shest.view import cells, viewer

MPP, TYPES, SYSTEMS, DIM = 0.25, [f"type_{i}" for i in range(6)], ("shest", "linear"), 64
COLOURS = ["#ffc0cb", "#ff0000", "#ffa500", "#ffd700", "#008000", "#0000ff"]
WATCH = """
window.seen = {frames: 0, longest: 0}; let before = 0;
const tick = now => { seen.frames++; if (before) seen.longest = Math.max(seen.longest, now - before); before = now;
  requestAnimationFrame(tick); };
requestAnimationFrame(tick);
const note = ready => requestAnimationFrame(() => setTimeout(() => { seen[ready] ??= performance.now(); }));
new MutationObserver(() => { const ready = document.documentElement?.dataset.ready; if (ready) note(ready); })
  .observe(document, {attributes: true, subtree: true, attributeFilter: ["data-ready"]});
"""


def make(folder: Path, side: int, n: int, genes: int) -> None:
    """Write what the rule reads."""
    rng = np.random.default_rng(42)
    _, image, _, _ = read_slide()
    first = 56 if image.shape[1] > 3200 else 0
    write_pyramid(folder / "image", np.ascontiguousarray(image[:, first : first + 2112, first : first + 2112]), side)
    across = int(np.ceil(np.sqrt(n)))
    grid = np.stack(np.divmod(rng.permutation(across**2)[:n], across)[::-1], axis=1)
    xy = (grid + rng.uniform(0.25, 0.75, (n, 2))) * (side / across)
    ids = np.array([f"{i:08x}-1" for i in range(n)], dtype=object)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radius = rng.uniform(9, 16, (n, 1)) * rng.uniform(0.85, 1.15, (n, 16))
    rings = xy[:, None] + np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius[..., None]
    write_outlines(folder / "outlines.parquet", ids, shapely.polygons(rings))
    del rings
    kept = rng.random(n) < 0.95
    sizes = {name: rng.uniform(4, 9, n) for name in ("width_um", "height_um")}
    table = pd.DataFrame({"cell_id": ids, "x": xy[:, 0], "y": xy[:, 1], **sizes, "mean_grey": rng.uniform(90, 200, n)})
    table.assign(kept=kept, reason=np.where(kept, "kept", "too_large")).to_parquet(folder / "cells.parquet")
    names = np.array(TYPES, dtype=object)[rng.integers(0, 6, n)]
    label = pd.Series(names).where(rng.random(n) < 0.8)
    annotation = {"cell_id": ids, "subtype": names, "score": rng.random(n), "cell_type": label}
    reason = np.where(label.notna(), "labelled", "other_type")
    pd.DataFrame(annotation | {"reason": reason}).to_parquet(folder / "annotation.parquet")
    panel = [f"GENE{i}" for i in range(genes)]
    for system in SYSTEMS:
        units = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "x_um": xy[:, 0], "y_um": xy[:, 1]}, ids)[kept]
        units = units.assign(part="test", fold="0")
        uns = {"gene_ids": [""] * genes}
        predictions.write(folder / f"{system}.h5ad", predicted(rng, len(units), genes), units, TYPES, panel, uns)
    counts = sparse.random(n, genes, 0.03, "csr", np.float32, rng)
    counts.data = np.ceil(counts.data * 5).astype(np.float32)
    obs = pd.DataFrame({"cell_id": ids}, index=ids)
    (folder / "store/tables").mkdir(parents=True)
    ad.AnnData(counts, obs, pd.DataFrame(index=panel)).write_zarr(folder / "store/tables/table")
    np.save(folder / "embeddings.npy", rng.normal(size=(int(kept.sum()), DIM)).astype(np.float16))


def predicted(rng: np.random.Generator, n: int, genes: int):
    """Blocks of predictions as a system makes them."""
    for first in range(0, n, predictions.ROWS):
        k = min(predictions.ROWS, n - first)
        probability = rng.dirichlet(np.full(6, 0.3), k).astype(np.float32)
        entropy = -(probability * np.log(probability + 1e-9)).sum(axis=1)
        numbers = {
            name: rng.gamma(1, 2, (k, genes)).astype(np.float32) for name in ("expected", *predictions.VARIANCES)
        }
        yield {"probability": probability, "entropy": entropy, "disagreement": rng.random(k)} | numbers


def build(folder: Path) -> None:
    """Build the viewer in this process and print what it took."""
    wall, spent = time.perf_counter(), time.process_time()
    group, table = zarr.open_group(folder / "image", mode="r"), pd.read_parquet(folder / "cells.parquet")
    embeddings, kept = np.load(folder / "embeddings.npy", mmap_mode="r"), np.flatnonzero(table["kept"])
    near = cells.nearest(lambda rows: embeddings[rows], len(kept))
    neighbours = np.full((len(table), near.shape[1]), -1)
    neighbours[kept] = kept[near]
    searched = time.perf_counter() - wall
    sample = viewer.Sample(
        name="synthetic",
        table=table,
        annotation=pd.read_parquet(folder / "annotation.parquet"),
        predictions={name: ad.read_h5ad(folder / f"{name}.h5ad", backed="r") for name in SYSTEMS},
        registration=Registration.of_alignment(np.diag([MPP, MPP, 1]), 1.0),
        scales=[group[str(level)] for level in range(3)],
        outlines=folder / "outlines.parquet",
        store=folder / "store",
        types=TYPES,
        palettes={"paper": dict(zip(TYPES, COLOURS, strict=True))},
        neighbours=neighbours,
    )
    made = viewer.build(folder / "viewer", [sample], 0.25, "all")
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - spent}
    print(json.dumps(seconds | {"neighbours_seconds": searched, "written": made["written"]}))


def run_build(folder: Path) -> dict:
    command = [sys.executable, "-m", "benchmark.viewer", str(folder), "--build"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with Peak(child.pid) as peak:
        said, _ = child.communicate()
    if child.returncode:
        raise SystemExit("the build failed")
    return json.loads(said.splitlines()[-1]) | {"peak_mb": round(peak.megabytes)}


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [below for child in children.read_text().split() for below in processes(int(child))]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def proportional_mb(pid: int) -> float:
    """Memory of a process and all below it, MB; what several share counts once (Pss)."""
    total = 0.0
    for one in processes(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all below it."""
    ticks = 0
    for one in processes(pid):
        try:
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:13]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def mouse(driver, kind: str, x: float, y: float, **further) -> None:
    place = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", place | further)


def drag(driver, step: int) -> None:
    """Move the view by mouse, in loops."""
    mouse(driver, "mouseMoved", 450 + 150 * np.sin(step / 15), 450 + 90 * np.sin(step / 11))


def wheel(driver, step: int) -> None:
    """Turn the wheel: in for a second, then out."""
    if step % 8 == 0:
        mouse(driver, "mouseWheel", 450, 450, buttons=0, deltaX=0, deltaY=-100 if step // 80 % 2 == 0 else 100)


def frames(driver, move, seconds: float) -> dict:
    """Move the view for some seconds: frames a second, the longest, and CPU time of each, ms."""
    pid = driver.service.process.pid
    driver.execute_script("seen.frames = 0; seen.longest = 0")
    begin, spent, step = time.monotonic(), cpu_seconds(pid), 0
    if move is drag:
        mouse(driver, "mousePressed", 450, 450)
    while time.monotonic() - begin < seconds:
        step += 1
        move(driver, step)
        time.sleep(0.008)
    number, longest = driver.execute_script("return [seen.frames, seen.longest]")
    took, spent = time.monotonic() - begin, cpu_seconds(pid) - spent
    if move is drag:
        mouse(driver, "mouseReleased", 450, 450)
    per_frame = round(1e3 * spent / max(number, 1))
    return {"frames_per_s": round(number / took, 1), "longest_ms": round(longest), "cpu_ms": per_frame}


def look(folder: Path, side: int) -> dict:
    """Open the page from disk and move it, far out and close up."""
    with browser.running() as driver:
        browser.resize(driver, 1280)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        driver.get((folder / "viewer/index.html").as_uri())
        end = time.monotonic() + 180
        while "all" not in driver.execute_script("return window.seen ?? {}"):
            if time.monotonic() > end:
                raise SystemExit(f"the page did not come up: {driver.get_log('browser')}")
            time.sleep(0.2)
        first = driver.execute_script("return [seen.cells, seen.all]")
        found = {"first_view_s": round(first[0] / 1e3, 2), "names_s": round(first[1] / 1e3, 2)}
        for name, zoom in (("far", None), ("middle", 0.4), ("outlines", 2.1)):
            if zoom:
                driver.execute_script(f"location.hash = '#x={side // 2}&y={side // 2}&z={zoom}'")
            time.sleep(4)
            for how in (drag, wheel):
                taken = frames(driver, how, 4)
                found |= {f"{name}_{how.__name__}_{key}": value for key, value in taken.items()}
                time.sleep(2)
            driver.save_screenshot(str(folder / f"{name}.png"))
        service = driver.service.process.pid
        return found | {"browser_mb": round(proportional_mb(service))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=40_000, help="px")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=50)
    parser.add_argument("--keep", action="store_true", help="keep what was made")
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder
    if options.build:
        return build(folder)
    shutil.rmtree(folder / "viewer", ignore_errors=True)
    if not (folder / "embeddings.npy").is_file():
        make(folder, options.side, options.cells, options.genes)
    first, again = run_build(folder), run_build(folder)
    size = used_bytes(folder / "viewer")
    print(f"{options.side:,} x {options.side:,} px, {options.cells:,} cells, {os.cpu_count()} cores")
    print(f"  build {first['seconds']:.0f} s ({first['cpu_seconds']:.0f} s of CPU), peak {first['peak_mb']:,} MB")
    print(f"  {first['written']:,} files, {size / 1e6:,.0f} MB; again: {again['written']:,} files written")
    seen = look(folder, options.side)
    print(f"  first view {seen['first_view_s']} s, names {seen['names_s']} s, browser {seen['browser_mb']:,} MB")
    for name in (f"{place}_{how}" for place in ("far", "middle", "outlines") for how in ("drag", "wheel")):
        rate, longest, spent = (seen[f"{name}_{key}"] for key in ("frames_per_s", "longest_ms", "cpu_ms"))
        print(f"  {name.replace('_', ', ')}: {rate} frames/s, longest {longest} ms, {spent} ms of CPU each")
    print(f"  load (1, 5, 15 min): {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    print(json.dumps({"build": first, "again_written": again["written"], "mb": round(size / 1e6)} | seen))
    if not options.keep:
        shutil.rmtree(folder)
    return None


if __name__ == "__main__":
    main()
