"""Refinement of the training cells (paper, Algorithm 1): keep what clusters with its own class in both spaces.

Expression and embedding are each projected to two dimensions; in each plane, class by class from the smallest,
only the dominant cluster is kept, and cells of other classes close to it are removed.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import pandas as pd
from scipy import linalg, sparse
from scipy.spatial import cKDTree
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA

COMPONENTS = 50
NORMALISED = 10_000  # counts of a cell before the logarithm
PAIRS = 50_000_000  # neighbour pairs that one DBSCAN may hold: 0.8 GB
BLOCK = 16_384
KEPT, OFF_CLUSTER, NEAR_OTHER = "kept", "off_cluster", "near_other_class"


@dataclass(frozen=True)
class Settings:
    """Section ``refine`` of the config.

    The paper leaves k and eps open. The defaults were chosen by how many cells they keep of real colon and lung
    tissue, about half; not by a score.

    neighbours : k of Algorithm 1
    eps_factor : eps over the median distance to the k-th neighbour
    min_samples : of DBSCAN
    umap_neighbours, min_dist : of UMAP
    seed : of PCA and UMAP
    """

    neighbours: int = 5
    eps_factor: float = 3.0
    min_samples: int = 10
    umap_neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 42


@dataclass
class Result:
    """What happened in one plane.

    cause : (n,) str, ``kept``, ``off_cluster`` or ``near_other_class``
    eps : of each class that was clustered
    whole : classes for which no cluster was found, kept whole
    thinned : classes whose points were thinned for DBSCAN's memory
    """

    cause: np.ndarray
    eps: dict[str, float] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)


def expression_components(counts: sparse.csr_matrix, seed: int) -> np.ndarray:
    """Normalise to 10,000 counts a cell, log1p, principal components.

    Parameters
    ----------
    counts : (n, g); cells without counts stay zero

    Returns
    -------
    (n, at most 50) float32
    """
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    logs = (sparse.diags(NORMALISED / np.maximum(totals, 1)) @ counts).log1p()
    components = min(COMPONENTS, min(logs.shape) - 1)
    if components < 2:
        return np.zeros((len(totals), 2), np.float32)
    model = PCA(components, svd_solver="arpack", random_state=seed)
    return fix_signs(model.fit_transform(sparse.csr_matrix(logs)), model.components_.T).astype(np.float32)


def embedding_components(take: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Standardise embeddings and project them on their principal components, block by block.

    Parameters
    ----------
    take : returns the embeddings (k, d) of positions
    n : number of cells

    Returns
    -------
    (n, at most 50) float32; memory does not grow with n x d
    """
    blocks = [np.arange(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    shift = take(blocks[0]).astype(np.float64).mean(axis=0)
    total, products = np.zeros_like(shift), np.zeros((len(shift), len(shift)))
    for block in blocks:
        x = take(block).astype(np.float64) - shift
        total += x.sum(axis=0)
        products += x.T @ x
    mean = total / n
    covariance = products / n - np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    varies = std > 1e-6
    scale = np.where(varies, 1 / np.where(varies, std, 1), 0)
    _, vectors = linalg.eigh(covariance * np.outer(scale, scale))
    axes = vectors[:, ::-1][:, : min(COMPONENTS, len(shift))]
    axes = fix_signs(axes, axes)
    return np.concatenate([((take(b) - shift - mean) * scale @ axes).astype(np.float32) for b in blocks])


def fix_signs(scores: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Turn components so that the largest loading of each is positive: their sign is arbitrary otherwise."""
    largest = np.abs(axes).argmax(axis=0)
    return scores * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)


def project(components: np.ndarray, settings: Settings) -> np.ndarray:
    """UMAP to two dimensions, (n, p) -> (n, 2) float32, the same on every run.

    Cells with the same components (the same few counts, say) are projected once: many copies would become each
    other's neighbours, and an island of their own. ``init="pca"``: the spectral start does not repeat where the
    neighbour graph is disconnected. Fewer cells than UMAP can place keep their first two components.
    """
    single, copy = np.unique(components.round(4), axis=0, return_inverse=True)
    if len(single) <= max(settings.umap_neighbours, 4):
        return np.ascontiguousarray(single[copy.ravel(), :2], dtype=np.float32)
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        model = load_umap().UMAP(
            n_neighbors=settings.umap_neighbours,
            min_dist=settings.min_dist,
            init="pca",
            random_state=settings.seed,
            n_jobs=1,
        )
        return np.asarray(model.fit_transform(single), dtype=np.float32)[copy.ravel()]


def load_umap() -> ModuleType:
    """Import umap, and let its compiled functions be kept on disk: every process would compile them anew, for 10 s."""
    import umap
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in ("umap", "pynndescent")]
    for function in {f for module in modules for f in vars(module).values() if isinstance(f, Dispatcher)}:
        with suppress(RuntimeError):  # nowhere to write
            function.enable_caching()
    return umap


@contextmanager
def one_thread() -> Iterator[None]:
    """Run numba's parallel loops on one thread: UMAP repeats exactly only so."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def dominant_cluster(
    places: np.ndarray, cells: np.ndarray, settings: Settings
) -> tuple[np.ndarray | None, float, bool]:
    """Largest DBSCAN cluster of one class.

    Parameters
    ----------
    places : (n, 2), each once
    cells : (n,) cells at each place

    Returns
    -------
    (n,) bool, or None where there is no cluster; eps; whether points were thinned
    """
    if len(places) <= settings.neighbours:
        return None, 0.0, False
    distance, _ = cKDTree(places).query(places, k=[settings.neighbours + 1])  # a place is its own nearest
    eps = settings.eps_factor * float(np.median(distance))
    found, thinned = cluster(places, eps, settings.min_samples)
    if (found < 0).all():
        return None, eps, thinned
    return found == np.bincount(found[found >= 0], weights=cells[found >= 0]).argmax(), eps, thinned


def cluster(points: np.ndarray, eps: float, min_samples: int, pairs: int = PAIRS) -> tuple[np.ndarray, bool]:
    """DBSCAN whose memory is bounded.

    Where more than ``pairs`` neighbour pairs would be held, the points of each square of eps/8 are put together
    into one that weighs as many: clusters are then those of eps, give or take an eighth.

    Returns
    -------
    (n,) int, -1 for noise; whether points were put together
    """
    total = int(cKDTree(points).query_ball_point(points, eps, return_length=True).sum())
    if total <= pairs:
        return DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points), False
    squares = np.floor(points / (eps / 8)).astype(np.int64)
    _, which, weight = np.unique(squares, axis=0, return_inverse=True, return_counts=True)
    gather = sparse.csr_matrix((np.ones(len(points)), (which.ravel(), np.arange(len(points)))))
    centres = (gather @ points) / weight[:, None]
    found = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(centres, sample_weight=weight)
    return found[which.ravel()], True


def refine_plane(points: np.ndarray, label: np.ndarray, settings: Settings) -> Result:
    """Algorithm 1 in one plane.

    From the class with the fewest cells upwards: the remaining cells of the class are clustered; those outside
    the dominant cluster go; then every remaining cell of another class that is among the k nearest neighbours of
    a cell of that cluster goes. A class without a cluster is kept whole and removes nothing. Distances are those
    between distinct places: cells that lie on one another count as one neighbour.

    Parameters
    ----------
    points : (n, 2)
    label : (n,) str

    Returns
    -------
    Result
    """
    result = Result(np.full(len(label), KEPT, dtype="<U16"))
    places, place = np.unique(points, axis=0, return_inverse=True)
    place = place.ravel()
    names, sizes = np.unique(label, return_counts=True)
    for name in names[np.argsort(sizes, kind="stable")]:
        own = np.flatnonzero((result.cause == KEPT) & (label == name))
        if len(own) == 0:
            continue
        held, at, cells = np.unique(place[own], return_inverse=True, return_counts=True)
        inside, eps, thinned = dominant_cluster(places[held], cells, settings)
        if inside is None:
            result.whole.append(str(name))
            continue
        result.eps[str(name)] = eps
        result.thinned += [str(name)] * thinned
        result.cause[own[~inside[at]]] = OFF_CLUSTER
        others = np.flatnonzero((result.cause == KEPT) & (label != name))
        near = _neighbours(places, np.unique(place[result.cause == KEPT]), held[inside], settings.neighbours)
        result.cause[others[np.isin(place[others], near)]] = NEAR_OTHER
    return result


def _neighbours(places: np.ndarray, remaining: np.ndarray, of: np.ndarray, k: int) -> np.ndarray:
    """Return the places among ``remaining`` that are one of the k nearest of a place in ``of``, or that place."""
    k = min(k + 1, len(remaining))
    _, near = cKDTree(places[remaining]).query(places[of], k=np.arange(1, k + 1))
    return remaining[np.unique(near)]


def refine(
    counts: sparse.csr_matrix, take: Callable[[np.ndarray], np.ndarray], label: np.ndarray, settings: Settings
) -> tuple[pd.DataFrame, dict[str, Result]]:
    """Refine the cells of one sample.

    Parameters
    ----------
    counts : (n, g)
    take : embeddings of positions 0 to n - 1
    label : (n,) str

    Returns
    -------
    table
        One row a cell, in order: cell_type, expression_umap_1, expression_umap_2, morphology_umap_1,
        morphology_umap_2, cause_expression, cause_morphology (kept, off_cluster, near_other_class),
        kept_expression, kept_morphology, kept, cause (kept, expression, morphology, both: where it was removed).
    results
        Of ``expression`` and ``morphology``.
    """
    table = pd.DataFrame({"cell_type": label})
    results: dict[str, Result] = {}
    spaces = {
        "expression": lambda: expression_components(counts, settings.seed),
        "morphology": lambda: embedding_components(take, len(label)),
    }
    for space, components in spaces.items():
        points = project(components(), settings)
        results[space] = refine_plane(points, label, settings)
        table[f"{space}_umap_1"], table[f"{space}_umap_2"] = points.T
        table[f"cause_{space}"] = results[space].cause
        table[f"kept_{space}"] = results[space].cause == KEPT
    table["kept"] = table["kept_expression"] & table["kept_morphology"]
    table["cause"] = np.select(
        [table["kept"], ~table["kept_expression"] & ~table["kept_morphology"], ~table["kept_expression"]],
        ["kept", "both", "expression"],
        "morphology",
    )
    return table, results


def counts_by_cause(table: pd.DataFrame) -> pd.DataFrame:
    """Cells by class (rows) and cause (columns kept, expression, morphology, both)."""
    causes = ["kept", "expression", "morphology", "both"]
    found = pd.crosstab(table["cell_type"], table["cause"]).reindex(columns=causes, fill_value=0)
    return found.rename_axis(index="cell_type", columns=None)
