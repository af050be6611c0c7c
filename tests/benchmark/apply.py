"""Packages on a plain slide, from its file to the predictions: the rule's own job against its parts run bare.

    cd tests && python -m benchmark.apply [PACKAGE ...] [--slide FILE] [--sides 2000 10000] [--rounds 3] [--threads 2]

Packages are those of the demo where none is named (results/packages, after make demo), and as many as are named, each
on its own system: `nuclei` sees a slide once, `shest` cuts a crop a cell. The job is the script of rule apply_slide in
a process of its own, imports included; the parts are the library's functions on the whole slide in memory, one after
the other, in one process that has imported and compiled before. They alternate. ``ratio`` is
the job's own work over the sum of the bare parts, ``whole`` the process from start to end. --sides gives the slides
whose memory is measured, of repeated tiles. The last line is JSON.
"""

import argparse
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tifffile
from support.memory import Peak

from benchmark.segment import read_slide

ROOT = Path(__file__).resolve().parents[2]
BLOCK_PX, TILE = 4096, 512
SETTINGS = {"stain": "estimated", "block_px": 2048}


def write_slide(path: Path, image: np.ndarray, mpp: float, side: int | None = None) -> None:
    """Write pixels (3, h, w) as a tiled pyramid; repeated up to ``side`` px where that is given."""
    height, width = (side, side) if side else image.shape[1:]

    def tiles(step: int):
        small = np.moveaxis(image[:, ::step, ::step], 0, -1)
        for top in range(0, height // step, TILE):
            for left in range(0, width // step, TILE):
                rows = np.arange(top, top + TILE) % small.shape[0]
                yield np.ascontiguousarray(small[rows][:, np.arange(left, left + TILE) % small.shape[1]])

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for step in (1, 4, 16):
            tiff.write(
                tiles(step),
                shape=(height // step, width // step, 3),
                dtype="uint8",
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(step > 1),
                resolution=(1e4 / mpp / step, 1e4 / mpp / step),
                resolutionunit="CENTIMETER",
            )


def prepare(package: Path, folder: Path, threads: int) -> Path | None:
    """Settle the package's encoder as its rule does; None for a system that reads no embeddings."""
    from shest.core import files
    from shest.encode import runner, spec
    from shest.run import packages

    facts = packages.open_package(package).facts
    if not facts["encoder"]:
        return None
    entry = spec.complete(facts["encoder"].get("entry") or facts["encoder"]["name"])
    files.write_json(folder / "encoder.json", runner.prepare(entry, facts["encoder"].get("precision", "auto"), "auto"))
    return folder / "encoder.json"


def job(package: Path, slide: Path, encoder: Path | None, folder: Path, threads: int) -> None:
    """Run the script of rule apply_slide in this process."""
    names = ("registration", "outlines", "segment", "cells", "predictions", "qupath", "explorer", "picture")
    places = {name: str(folder / name) for name in names} | {"tiles": None, "predictions": str(folder / "p.h5ad")}
    places |= {"outlines": str(folder / "outlines.parquet"), "picture": str(folder / "picture.png")}
    stand_in = SimpleNamespace(
        input=SimpleNamespace(encoder=[str(encoder)] if encoder else []),
        output=SimpleNamespace(state=str(folder / "state.json")),
        params=SimpleNamespace(
            package=str(package),
            row={"path": str(slide), "nuclei": None, "mpp": None},
            places=places,
            segment=SETTINGS,
            block_px=BLOCK_PX,
            genes="all",
            palette="paper",
        ),
        wildcards=SimpleNamespace(sample="slide"),
        threads=threads,
        resources={},
        log=[str(folder / "log")],
    )
    script = ROOT / "workflow" / "scripts" / "apply_slide.py"
    runpy.run_path(str(script), init_globals={"snakemake": stand_in})


def bare(package: Path, slide: Path, encoder: Path | None, folder: Path, threads: int) -> dict[str, float]:
    """Seconds of each part on the whole slide in memory."""
    from shest.core import files
    from shest.encode import runner
    from shest.io import slide as slides
    from shest.io.outlines import read_outlines, write_outlines
    from shest.run import one_slide, packages
    from shest.systems import base
    from shest.tiles import shards
    from shest.tiles.blocks import stream_blocks
    from shest.tiles.quadruple import window_shape
    from shest.tissue import cells

    opened = packages.open_package(package)
    model = base.load(opened.path(packages.MODEL), opened.path(packages.RECORD))
    network = runner.load(files.read_json(encoder), threads) if encoder else None
    clock = one_slide.Clock()
    with clock("reading"):
        mpp = slides.read_mpp(slide, None)
        scales = [np.asarray(scale) for scale in slides.read_scales(slide)]
    with clock("segmenting"):
        found = one_slide.find_nuclei({}, scales, mpp, opened, model, SETTINGS, threads)
    with clock("cells"):
        grey = cells.grey_by_block(scales[0], BLOCK_PX, threads)
        facts, shape = opened.facts, scales[0].shape[1:]
        table = cells.cell_table(
            found.all_ids, found.ids, found.polygons, shape, mpp, facts["cells"], facts["window_um"], grey
        )
    kept = table[table["kept"]].reset_index(drop=True)
    write_outlines(folder / "outlines.parquet", found.ids, found.polygons)
    _, points, start = read_outlines(folder / "outlines.parquet", kept["cell_id"])
    x = found.seen[table["kept"].to_numpy()] if found.seen is not None else np.empty((len(kept), 0), np.float16)
    cut = []
    if network:  # a system that saw the slide itself needs no crops
        with clock("tiling"):
            window = window_shape(facts["window_um"], *mpp)
            blocks, tiles = shards.tile_blocks(kept[["x", "y"]].to_numpy(), points, start, window, BLOCK_PX)
            cut = [(block.cells, made) for block, made in stream_blocks(blocks, scales[0], tiles, threads)]
        x = np.empty((len(kept), network.dim), np.float16)
        with clock("encoding"):
            for rows, (windows, masks) in cut:
                x[rows] = runner.encode_cells(network, windows, masks, 0, lambda n: None)
    with clock("predicting"):
        for begin in range(0, len(kept), 4096):
            model.system.predict(x[begin : begin + 4096])
    with clock("writing"):  # predictions, made once more on the way
        kept["x_um"], kept["y_um"], kept["part"], kept["fold"] = kept["x"], kept["y"], "predict", "all"
        uns = {"fingerprint": "", "model_sha256": []}
        one_slide.predict(model, "slide", kept, lambda rows: x[rows], "all", uns, folder / "bare.h5ad")
    return clock.seconds | {"kept": len(kept)}


def child(kind: str, *arguments: object) -> tuple[float, float, dict]:
    """Run a part of this module in a process of its own: seconds, peak of anonymous memory in MB, what it said."""
    command = [sys.executable, "-m", "benchmark.apply", "--as", kind, *map(str, arguments)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with Peak(process.pid) as peak:
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{kind} of {arguments[0]} failed")
    return time.perf_counter() - begin, peak.megabytes, json.loads(said.splitlines()[-1])


def act(kind: str, package: Path, slide: Path, folder: Path, threads: int) -> None:
    """What a child does; prints JSON."""
    encoder = prepare(package, folder, threads)
    if kind == "bare":
        bare(package, slide, encoder, folder, threads)  # compiled, workers started
        print(json.dumps(bare(package, slide, encoder, folder, threads)))
        return
    job(package, slide, encoder, folder, threads)
    print((folder / "state.json").read_text().replace("\n", " "))


def compare(package: Path, slide: Path, rounds: int, threads: int, folder: Path) -> dict[str, float]:
    """Alternate job and parts; medians."""
    whole, own, parts, state = [], [], [], {}
    for _ in range(rounds):
        seconds, _, state = child("job", package, slide, folder, threads)
        if state["state"] != "done":
            raise SystemExit(f"{package}: {state['reason']}")
        whole.append(seconds)
        own.append(state["total_seconds"])
        parts.append(child("bare", package, slide, folder, threads)[2])
    number = parts[0].pop("kept")
    for part in parts[1:]:
        part.pop("kept")
    total = [sum(part.values()) for part in parts]
    median, area = statistics.median(own), np.prod(state["shape"]) * np.prod(state["mpp"]) / 1e6
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in state["seconds"].items())
    named = ", ".join(f"{name} {statistics.median(part[name] for part in parts):.1f}" for name in parts[0])
    ratio = statistics.median(a / b for a, b in zip(own, total, strict=True))
    print(f"{package.name}: {number:,} cells on {area:.2f} mm², {threads} threads")
    print(f"  job {median:.1f} s ({stages}); with start-up {statistics.median(whole):.1f} s")
    print(f"  bare {statistics.median(total):.1f} s ({named}); job over bare {ratio:.2f}")
    hour = 3600 / statistics.median(whole)
    print(f"  an hour: {area * hour:,.0f} mm², {number * hour:,.0f} cells, {hour:,.0f} such slides", flush=True)
    return {
        "cells": number,
        "mm2": round(float(area), 3),
        "job_s": round(median, 2),
        "whole_s": round(statistics.median(whole), 2),
        "bare_s": round(statistics.median(total), 2),
        "ratio": round(ratio, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", type=Path)
    parser.add_argument("--slide", type=Path, help="a slide of one's own; else 2,000 px of the kit's, or painted")
    parser.add_argument("--sides", type=int, nargs="*", default=[2000, 10_000], help="of slides to measure memory, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--as", dest="kind", choices=["job", "bare"], help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.kind:
        package, slide, folder, threads = options.packages
        act(options.kind, package, slide, folder, int(str(threads)))
        return
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    packages = [path.resolve() for path in options.packages] or sorted((ROOT / "results" / "packages").glob("*"))
    if not packages:
        parser.error("no package: run make demo first, or name one")
    result: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, image, mpp, _ = read_slide()
        image = np.ascontiguousarray(image[:, :2112, :2112])
        slide = options.slide or folder / "slide.tif"
        if not options.slide:
            write_slide(slide, image[:, :2000, :2000], float(np.mean(mpp)))
        for package in packages:
            result[package.name] = compare(package, slide, options.rounds, options.threads, folder)
            for side in options.sides:
                write_slide(folder / "large.tif", image, float(np.mean(mpp)), side)
                seconds, peak, state = child("job", package, folder / "large.tif", folder, options.threads)
                kept = state["cells"].get("kept", 0)
                print(f"  {side:,} x {side:,} px: {kept:,} cells in {seconds:.0f} s, peak {peak:,.0f} MB", flush=True)
                result[package.name][f"peak_mb_{side}"] = round(peak)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
