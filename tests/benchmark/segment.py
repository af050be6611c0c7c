"""Segmentation: the project's path against a plain scikit-image pipeline of the same steps, and memory by slide size.

    cd tests && python -m benchmark.segment [--sides 2000 10000 40000] [--rounds 3]

Time is taken on a real slide (the bundle colon_train of SHEST_KIT, where it is there), else on painted tissue; both
paths see the same pixels, in memory, and alternate. Memory is that of a fresh process which segments a pyramid of
repeated tiles, stored as the rules store a slide. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely
import zarr
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree
from skimage import color, feature, filters, measure, transform
from support.memory import Peak

from shest.score import segmentation as scores
from shest.tissue.segment import classical, regions, stain

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KIT = Path(os.environ.get("SHEST_KIT", ROOT / ".." / "shared" / "data" / "kit"))
BLOCK_PX = 2048


def plain(image: np.ndarray, mpp: tuple[float, float], settings: classical.Settings) -> np.ndarray:
    """The same steps by scikit-image and SciPy on the whole image; centroids of nuclei (n, 2), full-size px."""
    rgb = np.moveaxis(image, 0, -1)
    where = regions.find_regions([image], mpp)
    shape = tuple(round(n * size / settings.mpp) for n, size in zip(rgb.shape[:2], mpp[::-1], strict=True))
    small = np.rint(transform.resize(rgb, shape, order=1, anti_aliasing=True, preserve_range=True)).astype(np.uint8)
    factor = np.array(rgb.shape[:2]) / shape
    stains = stain.estimate(small[stain.stained(small)][::17])
    rest = np.cross(stains.haematoxylin, stains.eosin)
    matrix = np.linalg.inv(np.stack([stains.haematoxylin, stains.eosin, rest / np.linalg.norm(rest)]))
    density = color.separate_stains(small, matrix)[..., 0] * -np.log(1e-6) / stains.full  # separate_stains' own unit
    size = settings.mpp
    ground = settings.background_share * filters.gaussian(density, settings.background_um / size)
    smooth = filters.gaussian(density, settings.smooth_um / size) - ground
    strength = filters.gaussian(density, settings.strength_um / size) - ground
    layers = [filters.gaussian(density, sigma / size) for sigma in settings.blobs_um]
    blobs = []
    for k, (fine, coarse) in enumerate(pairwise(layers)):
        response = fine - coarse
        peaks = feature.peak_local_max(
            response, min_distance=round(settings.apart_um / size), threshold_abs=settings.least_response
        )
        reach = settings.covers * np.sqrt(2 * settings.blobs_um[k] * settings.blobs_um[k + 1]) / size
        value = response[tuple(peaks.T)] * settings.favour**k
        blobs.append(np.column_stack([peaks, value, np.full(len(peaks), reach)]))
    blobs = np.concatenate(blobs)
    rows, columns = blobs[:, :2].astype(int).T
    x, y = (columns + 0.5) * factor[1] - 0.5, (rows + 0.5) * factor[0] - 0.5
    mean = filters.gaussian(density, settings.background_um / size)
    spread = np.sqrt(np.maximum(filters.gaussian(density**2, settings.background_um / size) - mean**2, 0))
    least = np.maximum(settings.least_density, settings.contrast * spread[rows, columns])
    blobs = blobs[(strength[rows, columns] > least) & (where.at(x, y) == regions.TISSUE)]
    blobs = blobs[np.argsort(-blobs[:, 2])]
    alive = np.ones(len(blobs), dtype=bool)
    for a, b in sorted(cKDTree(blobs[:, :2]).query_pairs(blobs[:, 3].max())):
        if alive[a] and np.hypot(*(blobs[a, :2] - blobs[b, :2])) < max(blobs[a, 3], blobs[b, 3]):
            alive[b] = False
    seeds = blobs[alive, :2].astype(int)
    labels = plain_watershed(smooth, seeds, settings.least_density, settings.slope, settings.reach_um / size * 10)
    mean = ndimage.mean(strength, labels, np.arange(len(seeds) + 1))
    least = np.maximum(settings.least_density, settings.share * np.nan_to_num(mean))
    labels[smooth < least[labels]] = 0
    found = []
    for region in measure.regionprops(labels):
        inside = ndimage.median_filter(np.pad(region.image_filled, 3), 5)
        parts = measure.label(inside, connectivity=1)
        if not parts.any():
            continue
        one = parts == np.bincount(parts[parts > 0]).argmax()
        if not settings.least_um2 <= one.sum() * size**2 <= settings.most_um2:
            continue
        ring = max(measure.find_contours(one.astype(float), 0.5), key=len)
        found.append(shapely.Polygon(ring[:, ::-1] + (region.bbox[1] - 3, region.bbox[0] - 3)))
    centres = shapely.get_coordinates(shapely.centroid(np.array(found, dtype=object)))
    return (centres + 0.5) * factor[::-1] - 0.5


def plain_watershed(density: np.ndarray, seeds: np.ndarray, least: float, slope: float, most: float) -> np.ndarray:
    """Watershed by topographic distance, bounded: the cheapest seed of each pixel by Dijkstra's paths over the image.

    scikit-image's floods by level and without a bound: its outlines are others, and F1 is 0.02 lower.
    """
    inside = density > least
    inside[tuple(seeds.T)] = True
    node = np.full(density.shape, -1, np.int64)
    node[inside] = np.arange(inside.sum())
    steps = []
    for down, right, length in ((0, 1, 10), (1, 0, 10), (1, 1, 14), (1, -1, 14)):
        height, width = density.shape
        a = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
        b = np.s_[down:, max(right, 0) : width + min(right, 0)]
        both = inside[a] & inside[b]
        steps.append((node[a][both], node[b][both], length + slope * np.abs(density[a] - density[b])[both]))
    one, other, cost = map(np.concatenate, zip(*steps, strict=True))
    graph = sparse.csr_array((cost, (one, other)), shape=(inside.sum(),) * 2)
    begin = node[tuple(seeds.T)]
    _, _, source = csgraph.dijkstra(graph, False, begin, return_predecessors=True, limit=most, min_only=True)
    label = np.zeros(inside.sum() + 1, np.int32)
    label[begin] = np.arange(1, len(begin) + 1)
    labels = np.zeros(density.shape, np.int32)
    labels[inside] = label[np.where(source < 0, -1, source)]
    return labels


def read_slide() -> tuple[str, np.ndarray, tuple[float, float], np.ndarray]:
    """Name, pixels (3, h, w), mpp and centroids of the outlined nuclei of the real slide, else of painted tissue."""
    if (KIT / "colon_train").is_dir():
        from benchmark.tiles import read_bundle

        source = read_bundle(KIT / "colon_train")
        return source.name, source.image, source.mpp, source.centres
    print(f"no kit at {KIT} (set SHEST_KIT): painted tissue")
    image, nuclei = paint()
    return "painted", image, (0.5, 0.5), shapely.get_coordinates(shapely.centroid(nuclei))


def paint(side: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Tissue with round nuclei, (3, side, side), and these."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(24, side - 12, 24), np.arange(24, side - 12, 24)), -1).reshape(-1, 2)
    nuclei = shapely.buffer(shapely.points(grid + rng.uniform(-4, 4, grid.shape)), rng.uniform(5, 8, len(grid)))
    drawn = ndimage.gaussian_filter(
        (scores._draw(shapely.STRtree(nuclei), (0, 0, side, side)) > 0).astype(np.float32), 1
    )
    stains = np.array([[0.584, 0.758, 0.289], [0.227, 0.862, 0.452]])
    density = np.stack([0.15 + 0.9 * drawn, 0.3 + 0.2 * rng.random((side, side))], -1) @ stains
    return np.moveaxis(np.clip(256 * np.exp(-density) - 1, 0, 255).astype(np.uint8), -1, 0), nuclei


def compare(rounds: int) -> dict:
    """Alternate the two paths; medians of the rounds."""
    name, image, mpp, nuclei = read_slide()
    settings = classical.Settings()
    classical.segment([image[:, :600, :600]], mpp, BLOCK_PX, 1)  # compiled before it is timed
    seconds, centres = {"plain": [], 1: [], 2: []}, {}
    for _ in range(rounds):
        begin = time.perf_counter()
        centres["plain"] = plain(image, mpp, settings)
        seconds["plain"].append(time.perf_counter() - begin)
        for threads in (1, 2):
            begin = time.perf_counter()
            found = classical.segment([image], mpp, BLOCK_PX, threads)
            seconds[threads].append(time.perf_counter() - begin)
            centres[threads] = shapely.get_coordinates(shapely.centroid(found.polygons))
    area = image.shape[1] * image.shape[2] * np.prod(mpp) / 1e6
    f1 = {key: scores.detection(nuclei * mpp, xy * mpp, 3.0)["f1"] for key, xy in centres.items()}
    print(f"{name}: {image.shape[2]:,} x {image.shape[1]:,} px, {area:.2f} mm², {len(nuclei):,} outlined nuclei")
    result = {}
    for key, label in (("plain", "scikit-image"), (1, "project, 1 thread"), (2, "project, 2 threads")):
        took = float(np.median(seconds[key]))
        rates = f"{area / took:7.3f} mm²/s, {len(centres[key]) / took:8,.0f} nuclei/s"
        print(f"  {label:18} {rates}, F1 at 3 µm {f1[key]:.3f}")
        result[f"mm2_per_s_{key}"], result[f"nuclei_per_s_{key}"] = area / took, len(centres[key]) / took
    for threads in (1, 2):
        ratio = np.array(seconds["plain"]) / np.array(seconds[threads])
        result[f"ratio_{threads}"] = float(np.median(ratio))
    return result | {"f1": f1[1], "f1_plain": f1["plain"]}


def write_pyramid(folder: Path, tile: np.ndarray, side: int) -> None:
    """Store a slide of repeated tiles with two smaller scales, a strip at a time."""
    root = zarr.open_group(folder, mode="w")
    for level in range(3):
        small = tile[:, :: 4**level, :: 4**level]
        edge = side // 4**level
        array = root.create_array(str(level), shape=(3, edge, edge), chunks=(3, 512, 512), dtype="u1")
        wide = np.tile(small, (1, 1, -(-edge // small.shape[2])))[:, :, :edge]
        for top in range(0, edge, small.shape[1]):
            array[:, top : top + small.shape[1]] = wide[:, : edge - top]


def segment_pyramid(folder: Path, mpp: float, threads: int) -> None:
    """Segment a stored slide in this process and print what was found."""
    group = zarr.open_group(folder, mode="r")
    begin = time.perf_counter()
    found = classical.segment([group[str(level)] for level in range(3)], (mpp, mpp), BLOCK_PX, threads)
    print(json.dumps({"nuclei": len(found.polygons), "seconds": time.perf_counter() - begin}))


def memory(side: int, threads: int, folder: Path) -> dict:
    """Peak of anonymous memory, MB, and time of a fresh process on a slide of ``side`` px."""
    _, image, mpp, _ = read_slide()
    first = 56 if image.shape[1] > 3200 else 0
    write_pyramid(folder, np.ascontiguousarray(image[:, first : first + 2112, first : first + 2112]), side)
    command = [sys.executable, "-m", "benchmark.segment", "--pyramid", str(folder)]
    command += ["--mpp", str(float(np.mean(mpp))), "--threads", str(threads)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with Peak(child.pid) as peak:
        said, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"segmenting {side:,} px failed")
    found = json.loads(said.splitlines()[-1])
    rate = (side * np.mean(mpp)) ** 2 / 1e6 / found["seconds"]
    print(
        f"  {side:,} x {side:,} px: {found['nuclei']:,} nuclei in {found['seconds']:.0f} s, {rate:.3f} mm²/s, "
        f"peak {peak.megabytes:,.0f} MB"
    )
    return {"peak_mb": round(peak.megabytes), "mm2_per_s": round(rate, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="*", default=[2000, 10_000, 40_000], help="of the pyramids, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the runs whose memory is measured")
    parser.add_argument("--pyramid", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--mpp", type=float, default=0.25, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pyramid:
        segment_pyramid(options.pyramid, options.mpp, options.threads)
        return
    result = compare(options.rounds)
    peaks = {}
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            peaks[str(side)] = memory(side, options.threads, Path(folder) / "slide.zarr")
    rounded = {key: round(value, 3) for key, value in result.items()}
    print(json.dumps(rounded | {"memory": peaks}))


if __name__ == "__main__":
    main()
