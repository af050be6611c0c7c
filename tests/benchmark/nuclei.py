"""From a slide to every nucleus, its type and its expression: one pass of `nuclei` against crops and morphometrics.

    cd tests && python -m benchmark.nuclei [--side 2000] [--rounds 3] [--threads 2] [--steps 200]

Both see the same pixels (the bundle colon_train of SHEST_KIT, where it is there, else painted tissue), in memory, and
alternate. The plain way finds nuclei by their stain, cuts a window for each, measures it (morphometrics), and answers
by logistic and ridge regression (`linear`). The network of `nuclei` is trained for some steps first, so that what it
finds are nuclei; how well, is not the question here. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
import torch
from support import painted

from benchmark.segment import KIT
from shest.encode.morphometrics import Morphometrics, feature_names
from shest.io.registration import Registration
from shest.systems.linear.system import Linear
from shest.systems.nuclei import passes
from shest.systems.nuclei.system import Nuclei
from shest.tiles import blocks, quadruple, raster
from shest.tissue.segment import classical

BLOCK_PX, WINDOW_UM, GENES = 2048, 16, 479


def read(side: int) -> tuple[str, np.ndarray, tuple[float, float], np.ndarray]:
    """Name, pixels (3, h, w), mpp and outlined nuclei of a part of the slide."""
    if not (KIT / "colon_train").is_dir():
        print(f"no kit at {KIT} (set SHEST_KIT): painted tissue")
        polygons, label = painted.nuclei((side, side))
        return "painted", painted.paint((side, side), polygons, label), (painted.MPP,) * 2, polygons
    from benchmark.tiles import read_bundle

    source = read_bundle(KIT / "colon_train")
    inside = (source.centres < side - 40).all(axis=1)
    return source.name, np.ascontiguousarray(source.image[:, :side, :side]), source.mpp, source.polygons[inside]


def train(image: np.ndarray, mpp: tuple[float, float], polygons: np.ndarray, steps: int) -> Nuclei:
    """Train on the outlines, types by size, so that there are some."""
    ids = np.array([f"{k:06d}" for k in range(len(polygons))])
    area = shapely.area(polygons)
    label = (area > np.median(area)).astype(np.int64)
    part = np.where(np.arange(len(ids)) % 10 == 0, "val", "train")
    system = Nuclei({"steps": steps, "checks": 1})
    with tempfile.TemporaryDirectory() as folder:
        paths = painted.write(Path(folder) / "slide", image, ids, polygons)
        Registration.of_alignment(np.diag([*mpp, 1.0]), 1.0).write(paths[2])
        data = replace(painted.training_set(paths, ids, part, label), held_out=None)
        system.fit(data, lambda n: None)
    system.ridge_weight = np.zeros((len(system.mean), GENES), np.float32)  # as many genes as a panel has
    system.ridge_bias = np.zeros(GENES, np.float32)
    return system


def linear() -> Linear:
    """Regressions of the right size; what they say does not matter for the time that they take."""
    system, d = Linear({}), len(feature_names())
    system.mean, system.std = np.zeros(d, np.float32), np.ones(d, np.float32)
    system.type_weight, system.type_bias = np.zeros((d, 2), np.float32), np.zeros(2, np.float32)
    system.ridge_weight, system.ridge_bias = np.zeros((d, GENES), np.float32), np.zeros(GENES, np.float32)
    return system


def by_crops(image: np.ndarray, mpp: tuple[float, float], system: Linear, encoder: Morphometrics, threads: int) -> int:
    """Nuclei by stain, a window for each, its measures, regressions; return the number of nuclei."""
    polygons = classical.segment([image], mpp, BLOCK_PX, threads).polygons
    window = quadruple.window_shape(WINDOW_UM, *mpp)
    centres = shapely.get_coordinates(shapely.centroid(polygons))
    origins = np.stack(quadruple.window_origin(*centres.T, *window), axis=1)
    inside = ((origins >= 0) & (origins + window[::-1] <= image.shape[:0:-1])).all(axis=1)
    polygons, centres, origins = polygons[inside], centres[inside], origins[inside]

    def measure(block: blocks.Block, pixels: np.ndarray) -> np.ndarray:
        chosen = polygons[block.cells]
        points, owner = shapely.get_coordinates(shapely.get_exterior_ring(chosen), return_index=True)
        start = np.searchsorted(owner, np.arange(len(chosen) + 1))
        masks = raster.rasterise(points, start, origins[block.cells], window)
        return encoder.encode(blocks.cut(block, pixels, origins, window), masks, 0)

    made = blocks.make_blocks(*centres.T, origins, window, BLOCK_PX)
    for part in blocks.each_block(made, image, measure, 1, "windows"):
        system.predict(np.asarray(part))
    return len(polygons)


def by_pass(image: np.ndarray, mpp: tuple[float, float], system: Nuclei, threads: int) -> int:
    """One pass of the network; return the number of nuclei."""
    looking = system.looking(threads)
    polygons, rows, _ = passes.sweep(looking, [image], mpp, BLOCK_PX, system.settings["mpp"], pool=True)
    if rows is not None:
        system.of_features(rows)
    return len(polygons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000, help="of the part of the slide, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name, image, mpp, polygons = read(options.side)
    area = np.prod(image.shape[1:]) * np.prod(mpp) / 1e6
    system, plain, encoder = train(image, mpp, polygons, options.steps), linear(), Morphometrics(options.threads)
    ways = {
        "crops": lambda pixels: by_crops(pixels, mpp, plain, encoder, options.threads),
        "nuclei": lambda pixels: by_pass(pixels, mpp, system, options.threads),
    }
    for way in ways.values():
        way(image[:, :400, :400])  # compiled, workers started
    spent, number = {key: [] for key in ways}, {}
    for _ in range(options.rounds):
        for key, way in ways.items():
            begin = time.perf_counter()
            number[key] = way(image)
            spent[key].append(time.perf_counter() - begin)
    result = {}
    print(f"{name}, {area:.2f} mm², {options.threads} threads, {system.device}")
    print(f"{'':8}{'s a mm²':>10}{'mm²/s':>10}{'nuclei/s':>10}{'nuclei':>8}")
    for key, seconds in spent.items():
        second = statistics.median(seconds)
        print(f"{key:8}{second / area:10.1f}{area / second:10.3f}{number[key] / second:10,.0f}{number[key]:8,}")
        result |= {f"{key}_mm2_per_s": round(area / second, 4), f"{key}_nuclei_per_s": round(number[key] / second, 1)}
    ratio = statistics.median(a / b for a, b in zip(spent["crops"], spent["nuclei"], strict=True))
    print(json.dumps(result | {"ratio": round(ratio, 2), "device": str(system.device)}))


if __name__ == "__main__":
    main()
