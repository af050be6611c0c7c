"""Labels by marker genes: planted types come back, the same seed gives the same bytes, every cell has a reason."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import Findings
from shest.labels import annotate, checks, markers, vote
from shest.labels.label_summary import summarise_markers

GENES = [f"G{i}" for i in range(60)]
TYPES = ["epi", "fibro", "immune", "tumour"]
SETTINGS = {
    "top": 10,
    "min_votes": 5,
    "refined": "Epithelial",
    "neoplastic": "enrichment",
    "neoplastic_top": 10,
    "neoplastic_share": 0.25,
    "neoplastic_p": 0.05,
    "resolution": 1.0,
}
CONFIG = {"Epi": {"categories": ["Epithelial"]}, "Tumour": {"categories": ["Neoplastic"]}, "Connective": {}}


def sample(cells=300, seed=0):
    """Counts in which each type has ten genes of its own (tumours five), tumours and epithelium ten more; the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(TYPES, cells)
    mean = np.full((cells, len(GENES)), 0.2)
    for number, name in enumerate(TYPES):
        mean[truth == name, number * 10 : number * 10 + (5 if name == "tumour" else 10)] = 4
    mean[np.isin(truth, ["epi", "tumour"]), 40:50] = 4
    counts = ad.AnnData(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)))
    counts.obs_names, counts.var_names = [f"c{i}" for i in range(cells)], GENES
    return counts, pd.Series(truth, counts.obs_names)


def entries() -> pd.DataFrame:
    """Epithelium is known by its own genes, tumours by epithelium's and by cancer genes; immune cells by nothing."""
    known = {"Epithelial": GENES[:10] + GENES[40:50], "Connective": GENES[10:20], "Neoplastic": GENES[30:35]}
    rows = [("", name, gene, "table", name) for name, genes in known.items() for gene in genes]
    return pd.DataFrame(rows, columns=["organ", "cell_type", "gene", "database", "category"])


def clustered(counts, resolution=1.0):
    return markers.cluster(markers.embed(counts, 50, 15, seed=42), resolution, top=10)


@pytest.fixture(scope="module")
def found():
    counts, truth = sample()
    clusters = clustered(counts)
    known = markers.evidence(entries(), None, [], "scaled", GENES)
    named = markers.name_clusters(clusters, known, GENES, SETTINGS)
    return counts, truth, clusters, named, markers.call_types(clusters, named, markers.owners(CONFIG))


def test_planted_types_come_back_and_what_nothing_names_is_unknown(found):
    _, truth, clusters, _, called = found
    expected = {"epi": "Epithelial", "fibro": "Connective", "tumour": "Neoplastic", "immune": "Unknown"}
    assert (called["subtype"] == truth.map(expected)).mean() > 0.99
    assert called["type"].dropna().unique().tolist() != []
    assert set(called["type"].dropna()) == {"Epi", "Tumour", "Connective"}
    assert called.loc[called["subtype"] == "Unknown", "type"].isna().all()
    assert clusters.silhouette > 0.3


def test_without_the_neoplastic_step_tumours_are_epithelium(found):
    _, truth, clusters, _, _ = found
    known = markers.evidence(entries(), None, [], "scaled", GENES)
    named = markers.name_clusters(clusters, known, GENES, SETTINGS | {"neoplastic": "none"})
    called = markers.call_types(clusters, named, {})
    assert set(called.loc[truth[truth == "tumour"].index, "subtype"]) == {"Epithelial"}
    shares = {item["cluster"]: item["cancer"]["share"] for item in named if item["cancer"]}
    of_tumours = clusters.of_cell[truth == "tumour"].map(shares)
    of_others = clusters.of_cell[truth == "epi"].map(shares)
    assert of_tumours.min() > of_others.max(), "cancer genes stand beside each epithelial cluster under every rule"


def test_the_same_seed_gives_the_same_clusters_and_genes(found):
    _, _, clusters, _, _ = found
    again = clustered(sample()[0])
    assert again.of_cell.to_numpy().tobytes() == clusters.of_cell.to_numpy().tobytes()
    assert again.genes == clusters.genes
    assert again.silhouette == clusters.silhouette


def test_more_resolution_makes_more_clusters():
    counts, _ = sample()
    assert len(clustered(counts, 4.0).genes) > len(clustered(counts, 0.5).genes)


def test_the_genes_of_a_cluster_are_ranked_by_the_rank_sum(found):
    from scipy import stats

    counts, _, clusters, _, _ = found
    dense = counts.X.toarray()
    logs = np.log1p(dense / dense.sum(axis=1, keepdims=True) * np.median(dense.sum(axis=1)))
    own = (clusters.of_cell == "0").to_numpy()
    z = [stats.ranksums(logs[own, g], logs[~own, g]).statistic for g in range(len(GENES))]
    scores = dict(zip(GENES, z, strict=True))
    best = sorted(scores.values(), reverse=True)[:10]
    assert [scores[gene] for gene in clusters.genes["0"]] == pytest.approx(best, abs=0.2)


def test_copies_of_a_cell_are_one_observation():
    counts, _ = sample(60)
    often = ad.concat([counts] * 8)
    often.obs_names = [f"d{i}" for i in range(often.n_obs)]
    clusters, once = clustered(often), clustered(counts)
    assert clusters.distinct == 60
    assert clusters.genes == once.genes
    assert clusters.of_cell.tolist() == once.of_cell.tolist() * 8


def test_distinct_rows_by_hand():
    first, row = markers.distinct(sparse.csr_matrix([[0, 2], [1, 0], [0, 2], [0, 0], [1, 0]]))
    assert first.tolist() == [0, 1, 3]
    assert row.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("cells", [1, 5])
def test_too_few_cells_for_a_graph_are_one_unknown_cluster(cells):
    counts = sample(20)[0][:cells].copy()
    clusters = clustered(counts)
    known = markers.evidence(entries(), None, [], "panel", GENES)
    (only,) = markers.name_clusters(clusters, known, GENES, SETTINGS)
    assert (only["category"], only["by"], only["cells"]) == ("Unknown", "no marker gene among its genes", cells)


def test_every_cell_has_a_reason(found):
    counts, truth, _, _, called = found
    ids = [*counts.obs_names, "empty"]
    groups = pd.Series({name: "Epi" for name in truth.index[truth != "fibro"]})
    frame = annotate.label(ids, called, groups, "marker").set_index("cell_id")
    assert list(frame.columns) == ["subtype", "score", "marker_type", "table_type", "cell_type", "reason"]
    assert frame.loc["empty", "reason"] == "no_counts"
    for name, reason in {
        "epi": "labelled",
        "tumour": "disagrees",
        "immune": "unknown_cluster",
        "fibro": "not_in_table",
    }.items():
        assert frame.loc[truth.index[truth == name], "reason"].value_counts().idxmax() == reason
    bare = annotate.label(ids, called.assign(type=called["type"].where(called["type"] != "Epi")), None, "marker")
    assert set(bare["reason"]) == {"labelled", "no_counts", "unknown_cluster", "excluded_subtype"}
    tacco = annotate.label(["a"], pd.DataFrame({"subtype": ["Unknown"], "type": [None], "score": [1.0]}, ["a"]), None)
    assert tacco["reason"].tolist() == ["excluded_subtype"], "a reference may have a subtype of that name"


def test_the_summary_says_what_is_to_be_doubted(found):
    counts, truth, clusters, named, called = found
    transcripts = pd.Series(1.0, counts.obs_names)
    arguments = [counts.obs_names, called, None, transcripts, clusters, named]
    summary = summarise_markers(*arguments, SETTINGS)
    unknown = (truth == "immune").mean()
    assert summary["types"]["labels"]["no type"] == pytest.approx(unknown, abs=0.01)
    (said,) = summary["doubts"]
    assert said.startswith(f"{summary['categories']['Unknown'] / 300:.0%} of the cells are in clusters that the marker")
    json.dumps(summary, allow_nan=False)
    wrong = truth.map({"epi": "Tumour", "fibro": "Epi", "tumour": "Connective"}).dropna()
    by_table = summarise_markers(*arguments[:2], wrong, *arguments[3:], SETTINGS)
    assert by_table["agreement"]["table"]["share"] < 0.05
    assert by_table["doubts"][0].startswith("The table disagrees with")
    clusters.distinct = 100
    chance = [item | {"cancer": item["cancer"] and item["cancer"] | {"chance": 0.8}} for item in named]
    published = summarise_markers(*arguments[:5], chance, SETTINGS | {"neoplastic": "ratio"})
    clusters.distinct = 300
    assert "Only 100 of 300 cells have counts of their own" in published["doubts"][1]
    assert "pass the published test with probability 0.80" in published["doubts"][2]


def test_types_own_categories_or_their_name_and_may_name_genes():
    types = {"A": {"categories": ["X", "Y"], "markers": ["cd3e"]}, "B": {"markers": ["ms4a1"]}, "C": {}}
    assert markers.owners(types) == {"X": "A", "Y": "A", "B": "B", "C": "C"}
    own = markers.own_markers(types)
    assert own[["cell_type", "gene"]].values.tolist() == [["X", "CD3E"], ["B", "MS4A1"]]


def write_databases(folder, table="cell_type\tgenes\nB cell\tMS4A1,CD19\nOdd\tX\n"):
    (folder / "genes.tsv").write_text(table)
    (folder / "categories.tsv").write_text("pattern\tcategory\nb cell\tInflammatory\n")
    (folder / "organs.tsv").write_text("pattern\torgans\n.\tblood\n")
    paths = {"categories": str(folder / "categories.tsv"), "organs": str(folder / "organs.tsv")}
    databases = [{"format": "table", "paths": [str(folder / "genes.tsv")]}]
    return SETTINGS | paths | {"databases": databases}


def test_the_check_counts_names_and_says_categories_that_nothing_is_of(tmp_path):
    findings = Findings()
    types = {"Immune": {"categories": ["Inflammatory"]}, "Own": {"markers": ["G1"]}, "Stroma": {}}
    seen = checks.check_markers(write_databases(tmp_path), types, findings)
    assert seen["names_not_known"] == {"Odd": 1}
    assert seen["databases"]["table"] == {"entries": 3, "genes": 3}
    (problem,) = map(str, findings.problems)
    assert problem.startswith("cell_types.Stroma: no marker gene is of the category Stroma.")


def test_the_check_says_every_broken_database(tmp_path):
    findings = Findings()
    section = write_databases(tmp_path, table="cell_type\nB cell\n")
    section["databases"].append({"format": "cancersea", "paths": [str(tmp_path / "none.txt")]})
    assert checks.check_markers(section, {"A": {}}, findings) == {}
    said = "\n".join(map(str, findings.problems))
    assert "no table: it has no column genes" in said
    assert "none.txt: no table of CancerSEA that can be read" in said
    assert vote.UNKNOWN not in said


def test_groups_of_a_table_may_be_types_under_another_name(tmp_path):
    owners = annotate.group_owners({"Immune": {"groups": ["B", "T"]}, "Tumour": {}})
    assert owners == {"Immune": "Immune", "B": "Immune", "T": "Immune", "Tumour": "Tumour"}
    path = tmp_path / "t.csv"
    path.write_text("cell_id,group\na,B\nb,T\nc,Tumour\nd,\n")
    assert annotate.read_table(path, np.array(list("abcd")), owners).dropna().to_dict() == {
        "a": "Immune", "b": "Immune", "c": "Tumour",
    }  # fmt: skip
    findings = Findings()
    assert checks.check_table(path, np.array(list("abcd")), owners, findings).to_dict() == {"Immune": 2, "Tumour": 1}
    assert findings.problems == []
    checks.check_table(path, None, {"Tumour": "Tumour"}, findings)
    assert [str(p).split(": ")[1].split(",")[0] for p in findings.problems] == [
        "1 cells of a type B", "1 cells of a type T",
    ]  # fmt: skip
