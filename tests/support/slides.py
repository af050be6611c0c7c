"""Plain slides and outlines of nuclei for tests: simulated ones, and QuPath's GeoJSON of a real one."""

import json
import uuid
from pathlib import Path

import numpy as np
import tifffile

CORNER = 0.5  # QuPath counts from the corner of the first pixel, the project from its centre


def circle(x, y, radius, points=24):
    """A closed ring (points + 1, 2) around a place, px."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    ring = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
    return np.concatenate([ring, ring[:1]])


def rings(*places, radius=14.0):
    """Circles around places (x, y)."""
    return [circle(x, y, radius) for x, y in places]


def feature(ring, kind="detection", number=None, **properties):
    """One object as QuPath exports it; ``number`` makes its id."""
    geometry = {"type": "Polygon", "coordinates": [(np.asarray(ring) + CORNER).tolist()]}
    made = {"type": "Feature", "geometry": geometry, "properties": {"objectType": kind} | properties}
    return made if number is None else made | {"id": str(uuid.UUID(int=number))}


def collection(features):
    return {"type": "FeatureCollection", "features": features}


def write(path: Path, data) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def tiff(path: Path, shape=(300, 400), mpp=0.25, grey=200, **options) -> Path:
    """A generic tiled RGB TIFF whose tags say its resolution; without one if ``mpp`` is None."""
    pixels = np.full((*shape, 3), grey, np.uint8)
    said = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", **(said | options))
    return path


def ome_tiff(path: Path, pixels: np.ndarray, mpp: float) -> Path:
    """A tiled OME-TIFF of pixels (h, w, 3) uint8."""
    said = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", ome=True, metadata=said, compression="zlib")
    return path


def find_nuclei(pixels: np.ndarray, mpp: float) -> list[np.ndarray]:
    """Outline nuclei of an H&E (h, w, 3) by a threshold on haematoxylin and a watershed; closed rings, px."""
    from scipy import ndimage
    from skimage import color, feature, filters, measure, morphology, segmentation

    stain = filters.gaussian(color.rgb2hed(pixels)[..., 0], 1.0 / mpp / 2)
    mask = morphology.opening(stain > filters.threshold_otsu(stain), morphology.disk(2))
    mask = morphology.remove_small_objects(mask, max_size=int(12 / mpp**2))
    depth = ndimage.distance_transform_edt(mask)
    peaks = feature.peak_local_max(depth, min_distance=int(3 / mpp), labels=measure.label(mask))
    seeds = np.zeros(mask.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-depth, seeds, mask=mask)
    found = []
    for region in measure.regionprops(labels):
        contour = max(measure.find_contours(np.pad(region.image, 1).astype(float), 0.5), key=len)
        found.append(contour[:, ::-1] + (region.bbox[1] - 1, region.bbox[0] - 1))
    return [ring for ring in found if len(ring) >= 8]
