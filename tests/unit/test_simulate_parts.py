"""The simulator's parts: what links image and expression, panels, reference, settings, and what the picture shows."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from shest.core.errors import InputError
from shest.labels import annotate, mixture
from shest.simulate import counts, geometry, nuclei, profiles, reference, render, slide, tissue
from shest.simulate.spec import Reference, Slide, reference_from_config, slide_from_config, stream

ROOT = Path(__file__).resolve().parents[2]
MARKERS = profiles.read_markers(ROOT / "resources/markers.tsv")


@pytest.fixture(scope="module")
def plan() -> tissue.Tissue:
    return tissue.plan(1000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def cells(plan) -> pd.DataFrame:
    return nuclei.populate(plan, 0.3, 0.0, np.random.default_rng(4))


def within_type(cells: pd.DataFrame, link: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlations, within each large type, of drawn nucleus area with counts: genes that may follow it, others."""
    genes = profiles.panel_profiles(MARKERS, "prime", 300, 0.0)
    x = counts.parameters(cells, genes, 0.0, link, np.random.default_rng(5)).draw(np.random.default_rng(6))
    size = np.log(geometry.area(nuclei.outline(cells, nuclei.relief(cells))))
    follows, rest = [], []
    for kind in ("Tumor_cell_LUAD", "Lymphocyte", "Fibroblast", "Alveolar_cell"):
        rows = (cells.cell_type == kind).to_numpy()
        common = x[rows].mean(axis=0) > 0.3
        r = np.array([np.corrcoef(size[rows], np.log1p(x[rows, g]))[0, 1] for g in np.flatnonzero(common)])
        follows += r[genes.size[common] > 0].tolist()
        rest += r[(genes.size[common] == 0) & (genes.stain[common] == 0)].tolist()
    return np.array(follows), np.array(rest)


def test_without_a_link_only_the_type_ties_expression_to_the_nucleus(cells):
    follows, rest = within_type(cells, 0.0)
    assert len(follows) > 15
    assert abs(follows.mean()) < 0.05
    assert abs(rest.mean()) < 0.03
    assert np.abs(rest).max() < 0.4


def test_a_link_lets_a_program_of_genes_follow_the_nucleus_and_no_others(cells):
    follows, rest = within_type(cells, 1.0)
    assert follows.mean() > 0.2
    assert abs(rest.mean()) < 0.03


def test_stronger_links_correlate_more(cells):
    assert within_type(cells, 0.4)[0].mean() < within_type(cells, 1.2)[0].mean() - 0.05


def test_subtype_follows_the_shape_only_where_linked():
    variant = np.repeat(["alveolar_flat", "alveolar_cuboid"], 400)
    flat = np.arange(800) < 400
    for link, low, high in ((0.0, 0.25, 0.45), (1.0, 1.0, 1.0)):
        drawn = nuclei.draw_subtypes(variant, link, np.random.default_rng(1))
        share = (drawn[flat] == "Alveolar cell type 1").mean()
        assert low <= share <= high
    unlinked = nuclei.draw_subtypes(variant, 0.0, np.random.default_rng(1)) == "Alveolar cell type 1"
    assert abs(unlinked[flat].mean() - unlinked[~flat].mean()) < 0.12


def test_zinb_draws_have_the_moments_it_names():
    shape = (40_000, 3)
    zinb = counts.Zinb(
        np.broadcast_to(np.array([0.4, 3.0, 20.0]), shape),
        np.broadcast_to(np.array([0.7, 2.0, 5.0]), shape),
        np.broadcast_to(np.array([0.0, 0.3, 0.6]), shape),
    )
    x = zinb.draw(np.random.default_rng(0))
    np.testing.assert_allclose(x.mean(axis=0), zinb.mean()[0], rtol=0.03)
    np.testing.assert_allclose(x.var(axis=0), zinb.variance()[0], rtol=0.06)


@pytest.fixture(scope="module")
def crowd() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of a crowd, of one cell far from it and of one within it that is silent; who takes part; counts."""
    rng = np.random.default_rng(0)
    places = np.vstack([rng.uniform(0, 150, (400, 2)), [[500, 500]], [[75, 75]]])
    takes_part = np.arange(402) < 401
    return places, takes_part, rng.poisson(rng.gamma(1, 20, (402, 5))).astype(np.int32) * takes_part[:, None]


def test_spillover_moves_transcripts_to_near_cells_and_loses_none(crowd):
    places, takes_part, own = crowd
    spillover = counts.draw_spillover(places, takes_part, 0.3, np.random.default_rng(1))
    measured, astray = spillover.move(own, np.random.default_rng(2))
    np.testing.assert_array_equal(measured.sum(axis=0), own.sum(axis=0))
    assert abs(astray.sum() / own.sum() - 0.3) < 0.04
    receiver, giver = astray.nonzero()
    distance = np.linalg.norm(places[receiver] - places[giver], axis=1)
    assert 0 < distance.min() <= distance.max() <= counts.REACH_UM
    assert (astray > 0).sum(axis=0).max() <= counts.NEIGHBOURS
    np.testing.assert_array_equal(measured[400:], own[400:])  # alone, and silent
    kept = own.sum(axis=1) - np.asarray(astray.sum(axis=0)).ravel()
    np.testing.assert_array_equal(measured.sum(axis=1), kept + np.asarray(astray.sum(axis=1)).ravel())


def test_expected_counts_as_measured_are_the_mean_of_many_draws(crowd):
    places, takes_part, own = crowd
    spillover = counts.draw_spillover(places, takes_part, 0.3, np.random.default_rng(1))
    rng = np.random.default_rng(3)
    draws = np.mean([spillover.move(own, rng)[0] for _ in range(200)], axis=0)
    expected = spillover.mean(own.astype(float))
    assert np.abs(draws - expected).max() < 0.1 * np.abs(own - expected).max()
    np.testing.assert_allclose(draws.sum(), expected.sum(), rtol=1e-6)


def test_without_spillover_every_transcript_stays(crowd):
    places, takes_part, own = crowd
    spillover = counts.draw_spillover(places, takes_part, 0.0, np.random.default_rng(1))
    np.testing.assert_array_equal(spillover.move(own, np.random.default_rng(2))[0], own)
    np.testing.assert_array_equal(spillover.mean(own.astype(float)), own)


def test_types_are_as_far_apart_as_difficulty_says():
    def contrast(difficulty: float) -> float:
        levels = profiles.full_profiles(MARKERS, difficulty).levels
        return np.log(levels).std(axis=0).mean()

    assert contrast(0.0) > 1.5 * contrast(0.5) > 1.5 * contrast(1.0)


def test_panels_overlap_in_part_and_ltbp2_is_on_the_large_one_alone():
    sets = {p: set(profiles.panel_profiles(MARKERS, p, 240, 0.3).symbols) for p in ("prime", "v1_lung", "v1_io")}
    for symbols in sets.values():
        assert len(symbols) == 240
        assert {"EPCAM", "CD3E", "PECAM1", "CD68", "COL1A1", "KRT7"} <= symbols
    assert "LTBP2" in sets["prime"]
    assert "LTBP2" not in sets["v1_lung"] | sets["v1_io"]
    for validation in ("v1_lung", "v1_io"):
        assert sets[validation] - sets["prime"]
        assert len(sets[validation] & sets["prime"]) > 100


def test_made_up_genes_fill_a_large_panel_and_are_the_same_everywhere():
    small, large = (profiles.panel_profiles(MARKERS, "v1_io", n, 0.3) for n in (300, 500))
    assert len(large.symbols) == 500
    both = np.intersect1d(small.symbols, large.symbols)
    assert "SIM0001" in both
    np.testing.assert_array_equal(
        small.levels[:, np.searchsorted(small.symbols, both)], large.levels[:, np.searchsorted(large.symbols, both)]
    )


def test_markers_say_what_the_field_knows():
    levels = profiles.full_profiles(MARKERS, 0.0)
    type_of = np.array([profiles.KIND_OF[s] for s in profiles.ALL_SUBTYPES])
    marks = {
        "EPCAM": "Tumor_cell_LUAD",
        "PECAM1": "Endothelial_cell",
        "LTBP2": "Fibroblast",
        "CD3E": "Lymphocyte",
        "CD68": "Macrophage",
        "SFTPC": "Alveolar_cell",
    }
    for gene, kind in marks.items():
        column = levels.levels[:, list(levels.symbols).index(gene)]
        means = {t: column[type_of == t].mean() for t in profiles.TYPES}
        assert max(means, key=means.get) == kind


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t.drop(columns="panels"), "lacks the columns panels"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "names EPCAM twice"),
        (lambda t: t.assign(subtypes="T cel CD4=3"), "unknown subtype 'T cel CD4'"),
    ],
)
def test_a_broken_marker_table_is_refused(tmp_path, edit, said):
    edit(MARKERS).to_csv(tmp_path / "markers.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match=said):
        profiles.read_markers(tmp_path / "markers.tsv")


def test_reference_is_laid_out_as_luca():
    data = reference.make_reference(MARKERS, Reference(cells=600))
    assert data.shape == (600, len(MARKERS))
    assert np.array_equal(data.X.data, np.round(data.X.data))
    assert set(data.obs.cell_type_tumor) == set(profiles.ALL_SUBTYPES)
    assert data.obs.cell_type_tumor.value_counts().min() >= 4
    assert data.var_names.str.startswith("ENSGSIM").all()
    assert data.var_names.is_unique
    assert set(data.var.feature_name) == set(MARKERS.symbol)
    smart = data.obs.platform == "Smart-seq2"
    assert 0.03 < smart.mean() < 0.15
    assert data.X[smart.to_numpy()].sum(axis=1).mean() > 5 * data.X[~smart.to_numpy()].sum(axis=1).mean()


def test_normalised_reference_keeps_the_counts_in_raw():
    plain = reference.make_reference(MARKERS, Reference(cells=400))
    data = reference.make_reference(MARKERS, Reference(cells=400, normalised=True))
    assert np.array_equal(data.raw.X.toarray(), plain.X.toarray())
    np.testing.assert_allclose(np.expm1(data.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_platform_factors_scale_each_gene_alike_in_all_subtypes():
    plain = reference.make_reference(MARKERS, Reference(cells=4000))
    seen = reference.make_reference(MARKERS, Reference(cells=4000, platform_factor=1.0))
    ratio = []
    for subtypes in (["Macrophage"], ["Tumor cells LUAD"]):
        rows = (plain.obs.cell_type_tumor.isin(subtypes) & (plain.obs.platform != "Smart-seq2")).to_numpy()
        sums = [np.asarray(data.X[rows].sum(axis=0)).ravel() for data in (plain, seen)]
        ratio.append(np.where(np.minimum(*sums) > 50, np.log(np.maximum(sums[1], 1) / np.maximum(sums[0], 1)), np.nan))
    both = np.isfinite(ratio).all(axis=0)
    assert both.sum() > 50
    assert np.corrcoef(ratio[0][both], ratio[1][both])[0, 1] > 0.9
    assert 0.7 < ratio[1][both].std() < 1.2
    assert reference_from_config({"platform_factor": 0.5}).platform_factor == 0.5


def test_reference_is_composed_as_asked():
    shares = {"Lymphocyte": 0.6, "Macrophage": 0.3}
    spec = reference_from_config({"slides": {}, "reference": {"cells": 3000, "types": shares}})
    kinds = reference.make_reference(MARKERS, spec).obs.cell_type.value_counts(normalize=True)
    assert abs(kinds["Lymphocyte"] - 0.6) < 0.05
    assert kinds["Fibroblast"] < 0.03
    for types, said in (
        ({"Lymphocytes": 0.1}, "unknown type"),
        ({"Lymphocyte": 0.7, "Macrophage": 0.4}, "more than 1"),
    ):
        with pytest.raises(InputError, match=said):
            reference_from_config({"reference": {"types": types}})


def test_reference_bytes_repeat(tmp_path):
    for name in ("a", "b"):
        reference.write_reference(tmp_path / f"{name}.h5ad", reference.make_reference(MARKERS, Reference(cells=300)))
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_settings_come_from_the_slide_then_the_section_then_the_default():
    section = {
        "seed": 5,
        "difficulty": 0.1,
        "spillover": 0.2,
        "slides": {"a": {"cells": 400, "difficulty": 0.7}, "b": {"genes": 900}},
    }
    a = slide_from_config("a", section)
    assert (a.seed, a.difficulty, a.link, a.cells, a.spillover) == (5, 0.7, Slide("x").link, 400, 0.2)
    assert reference_from_config(section | {"reference": {"cells": 350}}).genes == 900


@pytest.mark.parametrize(
    ("slides", "said"),
    [
        ({}, "no such slide"),
        ({"a": {"cells": 60}}, "60 cells are too few"),
        ({"a": {"colour": 1}}, "unknown key"),
        ({"a": {"difficulty": 1.2}}, "not between 0 and 1"),
    ],
)
def test_bad_settings_are_said(slides, said):
    with pytest.raises(InputError, match=said):
        slide_from_config("a", {"slides": slides})


def test_every_type_lies_where_it_belongs(plan, cells):
    def share(variant: str, field: str, least: float) -> float:
        rows = cells[cells.variant == variant]
        return (plan.at(field, rows.x.to_numpy(), rows.y.to_numpy()) > least).mean()

    assert plan.at("tissue", cells.x.to_numpy(), cells.y.to_numpy()).min() > 5  # none fades into the glass
    assert share("tumour", "nest", 0) == 1
    assert share("alveolar_cuboid", "wall", -2) == 1
    assert share("macrophage", "air", 0) > 0.5
    assert share("lymphocyte", "lymphoid", -4) > 0.5
    assert share("endothelial", "lumen", -4) > 0.3
    assert set(nuclei.shares(cells)) == {*profiles.TYPES, profiles.OTHER}
    assert min(nuclei.shares(cells).values()) > 5


def test_nuclei_differ_between_types_and_less_so_where_it_is_difficult():
    names = np.repeat(list(nuclei.LOOKS), 200)

    def spread(difficulty: float) -> float:
        looks = nuclei.draw_looks(names, difficulty, np.random.default_rng(0)).assign(variant=names)
        return np.log(looks.groupby("variant").a.mean() * looks.groupby("variant").b.mean()).std()

    assert spread(0.0) > 1.5 * spread(0.8)


@pytest.fixture(scope="module")
def painted(plan, cells):
    """Picture without noise, in blocks of two sizes, and the plan's fields at its pixels."""
    things = render.bodies(plan, cells, nuclei.relief(cells), np.random.default_rng(1))
    scanner = render.draw_scanner(0.0, 0.3, np.random.default_rng(2))
    scanner = render.Scanner(scanner.vectors, scanner.light, scanner.blur, 0.0)
    pictures = []
    for block in (1024, 300):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(render, "BLOCK", block)
            pictures.append(render.render(plan, things, scanner, 0.3, np.random.default_rng(3)))
    return pictures, things


def test_blocks_meet_without_a_seam(painted):
    large, small = painted[0]
    assert np.abs(large.astype(int) - small).max() <= 1


def test_compartments_look_as_they_should(plan, painted):
    picture = painted[0][0]
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] * 0.3

    def colour(mask: np.ndarray) -> np.ndarray:
        return picture[mask].astype(float).mean(axis=0)

    glass = colour(plan.at("tissue", x, y) < -8)
    on_tissue = plan.at("tissue", x, y) > 8
    air = colour(on_tissue & (plan.at("air", x, y) > 14))
    nest = colour(on_tissue & (plan.at("nest", x, y) > 6))
    lymphoid = colour(on_tissue & (plan.at("lymphoid", x, y) > 6))
    stroma = colour(on_tissue & plan.stroma()[y.astype(int), x.astype(int)])
    blood = painted[1].discs[painted[1].discs[:, 4] == render.RED]
    deep = plan.at("lumen", blood[:, 0], blood[:, 1]) > 5
    red = picture[(blood[deep, 1] / 0.3).astype(int), (blood[deep, 0] / 0.3).astype(int)].astype(float).mean(axis=0)
    assert glass.min() > 235
    assert air.mean() > nest.mean() + 30
    assert lymphoid.mean() < nest.mean()
    assert stroma[0] - stroma[2] > nest[0] - nest[2]  # pinker
    assert red[0] - red[1:].max() > 40


def test_affine_scales_turns_and_mirrors_and_keeps_the_picture_in_the_frame():
    for mirror in (False, True):
        matrix = geometry.affine((900, 1200), 0.25, 30.0, mirror, 40.0)
        scale = np.hypot(*matrix[:2, :2]) * 0.2125
        np.testing.assert_allclose(scale, [0.25 * 1.0015, 0.25 * 0.9985], rtol=1e-8)
        assert (np.linalg.det(matrix) < 0) == mirror
        corners = geometry.apply(matrix, np.array([[0, 0], [1200, 0], [0, 900], [1200, 900]], float))
        np.testing.assert_allclose(corners.min(axis=0), 40 / 0.2125, atol=1e-4)


def test_cell_ids_are_those_of_xenium():
    from spatialdata_io.readers.xenium import cell_id_str_from_prefix_suffix_uint32

    prefix, names = geometry.cell_ids(500, np.random.default_rng(0))
    assert len(set(names)) == 500
    assert names.tolist() == cell_id_str_from_prefix_suffix_uint32(prefix, np.ones(500, np.uint32)).tolist()


def test_label_image_counts_from_one():
    square = np.array([[2, 2], [2, 6], [6, 6], [6, 2]], float)
    image = geometry.label_image(np.stack([square, square + 10]), (20, 20))
    assert image[4, 4] == 1
    assert image[14, 14] == 2
    assert image[9, 9] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("difficulty", "least"), [(0.0, 0.99), (0.3, 0.97)])
def test_tacco_finds_the_types_again(tmp_path, difficulty, least):
    reference.write_reference(
        tmp_path / "r.h5ad", reference.make_reference(MARKERS, Reference(cells=1500, difficulty=difficulty))
    )
    known = annotate.read_reference(tmp_path / "r.h5ad", exclude={"platform": ["Smart-seq2"]})
    cells = nuclei.populate(tissue.plan(900, np.random.default_rng(8)), difficulty, 0.5, np.random.default_rng(9))
    genes = profiles.panel_profiles(MARKERS, "prime", 320, difficulty)
    x = counts.parameters(cells, genes, difficulty, 0.5, np.random.default_rng(10)).draw(np.random.default_rng(11))
    data = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)))
    data.var_names = genes.symbols
    shares = annotate.run_tacco(*annotate.share_genes(data, known, 50)[:2], None)
    found = np.array([profiles.KIND_OF[s] for s in np.asarray(shares.columns)[shares.to_numpy().argmax(axis=1)]])
    assert (found == cells.cell_type.to_numpy()[shares.index.astype(int)]).mean() > least


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> dict:
    """The demo's training slide without its picture: counts, reference, table, the sample's own composition, truth."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    path = tmp_path_factory.mktemp("demo") / "r.h5ad"
    reference.write_reference(path, reference.make_reference(MARKERS, reference_from_config(config["simulate"])))
    spec = slide_from_config("sim_train", config["simulate"])
    spec = replace(spec, cells=1500)
    _, cells, _ = slide.populated(spec)
    genes = profiles.panel_profiles(MARKERS, spec.panel, spec.genes, spec.difficulty)
    zinb = counts.parameters(cells, genes, spec.difficulty, spec.link, stream(spec, "parameters"))
    observed, _, received = slide.measure(spec, cells, zinb)
    table = cells[["cell_type", "drawn"]].assign(spillover=received.sum(axis=1))
    ids = [f"c{i}" for i in range(len(cells))]
    data = ad.AnnData(sparse.csr_matrix(observed.astype(np.float32)), obs=pd.DataFrame(index=ids))
    data.var_names = genes.symbols
    known = annotate.read_reference(path, exclude=config["reference"]["exclude"])
    data, known, _ = annotate.share_genes(data, known, 50)
    transcripts = pd.Series(annotate.transcripts(data), data.obs_names)
    groups = pd.Series(slide.add_table(spec, table, received).table_group.to_numpy(), ids)
    return {
        "cells": data,
        "known": known,
        "groups": groups[groups != ""],
        "transcripts": transcripts,
        "estimated": mixture.composition(mixture.fit(data, known), transcripts),
        "truth": pd.Series(cells.cell_type.to_numpy(), ids),
        "subtypes": {name: list(members["subtypes"]) for name, members in config["cell_types"].items()},
    }


def called(demo: dict, prior: str, groups: pd.Series | None) -> pd.DataFrame:
    """Types that TACCO gives to the demo's cells with a prior of the config."""
    _, shares = annotate.choose_prior(
        prior, groups, demo["transcripts"], demo["subtypes"], demo["known"], demo["estimated"]
    )
    found = annotate.run_tacco(demo["cells"], demo["known"], None if prior == "reference" else shares)
    return annotate.call_types(found, demo["subtypes"], pooled=False)


@pytest.mark.slow
def test_some_of_the_demos_labels_are_wrong_although_expression_and_table_agree(demo):
    calls = called(demo, "auto", demo["groups"])
    labels = annotate.label(demo["truth"].index, calls, demo["groups"]).set_index("cell_id")["cell_type"].dropna()
    typed = calls["type"].dropna()
    both = typed.index.intersection(demo["groups"].index)
    assert 0.85 < (labels == demo["truth"][labels.index]).mean() < 0.96
    assert 0.65 < (typed[both] == demo["groups"][both]).mean() < 0.9


@pytest.mark.slow
def test_the_estimated_prior_labels_better_than_the_published_one_where_reference_and_tissue_differ(demo):
    """The demo's reference is composed otherwise than the tissue, and sees genes through log-normal factors."""
    right = {}
    for prior in ("auto", "reference"):
        typed = called(demo, prior, None)["type"].dropna()
        right[prior] = (typed == demo["truth"][typed.index]).mean()
    assert right["auto"] > right["reference"] + 0.05
    assert right["auto"] > 0.8
