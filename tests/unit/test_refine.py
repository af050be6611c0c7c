"""Algorithm 1 on constructed planes and on simulated cells."""

import numpy as np
import pytest
from scipy import sparse

from shest.labels import refine

SETTINGS = refine.Settings(neighbours=5, eps_factor=1.5, min_samples=5, umap_neighbours=10)


def blob(rng, centre, n, spread=1.0):
    return np.asarray(centre) + spread * rng.normal(size=(n, 2))


def plane():
    """Two classes far apart; of each a few cells lie in the other's blob, or alone."""
    rng = np.random.default_rng(0)
    blobs = [blob(rng, centre, n) for centre, n in (((0, 0), 200), ((30, 0), 300), ((30, 0), 6), ((0, 0), 4))]
    points = np.concatenate([*blobs, [[15, 40], [-40, 15]]])
    label = np.repeat(["A", "B", "A", "B", "A", "B"], [200, 300, 6, 4, 1, 1])
    return points, label


def test_only_the_dominant_cluster_stays():
    points, label = plane()
    result = refine.refine_plane(points, label, SETTINGS)
    cause = result.cause
    assert (cause[:200] == "kept").mean() > 0.8
    assert (cause[200:500] == "kept").mean() > 0.8
    assert (cause[500:506] == "off_cluster").all()
    assert (cause[506:510] != "kept").all()
    assert (cause[510:] == "off_cluster").all()


def test_a_small_class_removes_its_neighbours_of_other_classes():
    """Two small interlocked groups: the smaller class is clustered first, and its neighbours of the other go."""
    rng = np.random.default_rng(1)
    points = np.concatenate([blob(rng, (0, 0), 40), blob(rng, (0, 0), 60), blob(rng, (20, 0), 200)])
    label = np.repeat(["small", "large", "large"], [40, 60, 200])
    result = refine.refine_plane(points, label, SETTINGS)
    assert (result.cause[40:100] == "near_other_class").mean() > 0.6
    assert (result.cause[40:100] != "kept").mean() > 0.8
    assert (result.cause[100:] == "kept").mean() > 0.8


def test_the_order_is_from_the_smallest_class():
    """Who comes first removes the other: swapping the sizes swaps who survives."""
    rng = np.random.default_rng(2)
    points = blob(rng, (0, 0), 300)
    for few, many in (("A", "B"), ("B", "A")):
        label = np.where(np.arange(300) < 100, few, many)
        result = refine.refine_plane(points, label, SETTINGS)
        near = [(result.cause[label == name] == "near_other_class").mean() for name in (few, many)]
        assert near[1] > 0.5  # the larger class loses most of its cells before it is clustered itself
        assert next(iter(result.eps)) == few


def test_a_class_without_a_cluster_is_kept_whole_and_said():
    points, label = plane()
    points = np.concatenate([points, [[100, 100], [140, 90], [90, 150]]])
    label = np.r_[label, ["rare"] * 3]
    result = refine.refine_plane(points, label, SETTINGS)
    assert result.whole == ["rare"]
    assert (result.cause[-3:] == "kept").all()
    assert set(result.eps) == {"A", "B"}


def test_copies_of_a_cell_do_not_make_a_cluster_of_their_own():
    """Twenty cells at each place, as where counts repeat: eps follows the places, not the copies."""
    points, label = plane()
    copied = np.repeat(np.arange(len(points)), 20)
    single = refine.refine_plane(points, label, SETTINGS)
    several = refine.refine_plane(points[copied], label[copied], SETTINGS)
    assert several.eps == single.eps
    assert (several.cause == single.cause[copied]).all()


def test_copies_are_projected_once():
    rng = np.random.default_rng(0)
    components = rng.normal(size=(60, 6))
    single, several = (refine.project(components[rows], SETTINGS) for rows in (np.arange(60), np.r_[:60, :60, :60]))
    assert len(np.unique(several, axis=0)) == 60
    assert np.array_equal(several[:60], several[60:120])
    assert single.shape == (60, 2)


def test_bounded_dbscan_equals_dbscan_where_it_fits_and_nearly_elsewhere():
    rng = np.random.default_rng(3)
    noise = rng.uniform(-20, 20, (60, 2))
    points = np.concatenate([blob(rng, (0, 0), 1_500, 0.3), blob(rng, (6, 0), 1_000, 0.3), noise])
    exact, thinned = refine.cluster(points, 0.8, 10)
    assert not thinned
    found, thinned = refine.cluster(points, 0.8, 10, pairs=10_000)
    assert thinned
    assert ((found >= 0) == (exact >= 0)).mean() > 0.98
    assert len(set(found[:1_500]) - {-1}) == len(set(found[1_500:2_500]) - {-1}) == 1
    assert found[0] != found[1_500]


def simulated(n=240, seed=0):
    """Three types in both spaces; the first cells carry another type's label."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    mu = rng.gamma(0.7, 4.0, (3, 60))
    counts = sparse.csr_matrix(rng.poisson(mu[kind]).astype(np.float32))
    embeddings = (rng.normal(size=(3, 20)) * 3)[kind] + rng.normal(size=(n, 20))
    label = np.array(["A", "B", "C"])[kind]
    label[:12] = np.array(["A", "B", "C"])[(kind[:12] + 1) % 3]
    return counts, embeddings.astype(np.float16), label


@pytest.fixture(scope="module")
def refined():
    counts, embeddings, label = simulated()
    return refine.refine(counts, lambda rows: embeddings[rows], label, SETTINGS)


def test_wrong_labels_go_and_right_ones_stay(refined):
    table, _ = refined
    assert not table["kept"][:12].any()
    assert table["kept"][12:].mean() > 0.85


def test_kept_means_kept_in_both_spaces(refined):
    table, _ = refined
    assert (table["kept"] == (table["kept_expression"] & table["kept_morphology"])).all()
    assert ((table["cause"] == "kept") == table["kept"]).all()
    assert ((table["cause"] == "both") == (~table["kept_expression"] & ~table["kept_morphology"])).all()
    assert ((table["cause"] == "expression") == (~table["kept_expression"] & table["kept_morphology"])).all()
    counts = refine.counts_by_cause(table)
    assert counts.to_numpy().sum() == len(table)
    assert list(counts.columns) == ["kept", "expression", "morphology", "both"]


def test_refinement_repeats_exactly(refined):
    counts, embeddings, label = simulated()
    again, _ = refine.refine(counts, lambda rows: embeddings[rows], label, SETTINGS)
    assert again.equals(refined[0])


def test_expression_components_are_principal_components_of_log_counts():
    counts, _, _ = simulated()
    found = refine.expression_components(counts, 0)
    dense = counts.toarray().astype(float)
    logs = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    singular = np.linalg.svd(logs - logs.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), singular[:50], rtol=1e-4)


def test_cells_without_counts_do_not_break_the_components():
    counts, _, _ = simulated(60)
    counts = counts.tolil()
    counts[3] = 0
    assert np.isfinite(refine.expression_components(counts.tocsr(), 0)).all()


def test_embedding_components_by_blocks_equal_the_plain_ones(monkeypatch):
    _, embeddings, _ = simulated()
    embeddings[:, 4] = 7  # a constant feature
    monkeypatch.setattr(refine, "BLOCK", 37)
    found = refine.embedding_components(lambda rows: embeddings[rows], len(embeddings))
    x = embeddings.astype(float)
    std = x.std(axis=0)
    x = np.where(std > 0, (x - x.mean(axis=0)) / np.where(std > 0, std, 1), 0)
    singular = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), singular, rtol=1e-3, atol=1e-2)


def test_few_cells_are_not_projected():
    components = np.arange(20.0).reshape(5, 4)
    np.testing.assert_array_equal(refine.project(components, SETTINGS), components[:, :2])
