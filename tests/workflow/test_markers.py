"""Labels by marker genes from the simulated bundles: no reference is asked for, and every way to label is compared."""

import json

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.slow
R = "results/tiny"
TYPES = {
    "Alveolar_cell": {"categories": ["Epithelial"]},
    "Tumor_cell_LUAD": {"categories": ["Neoplastic"]},
    "Immune": {"categories": ["Inflammatory"], "groups": ["Macrophage", "Lymphocyte"]},
    "Connective": {"groups": ["Fibroblast", "Endothelial_cell"]},
}


def write_config(root, folder, **change):
    """The small demo's bundles with the types that marker genes can tell, and without its reference."""
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    config = {k: v for k, v in config.items() if k != "reference"} | {"cell_types": TYPES}
    config |= {"samples": str(root / "config/tiny.tsv"), "annotate": {"method": "markers"}} | change
    (folder / "markers.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "markers.yaml"


@pytest.fixture(scope="module")
def run(snake, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("markers")
    ways = ["markers", "aucell", "ucell", "top_down"]
    snake(
        folder, "--nolock", "labels", config=write_config(root, folder, annotate={"method": "markers", "compare": ways})
    )
    return folder


def test_a_run_by_marker_genes_plans_neither_the_reference_nor_its_check(snake, root, tmp_path):
    planned = snake(tmp_path, "--dry-run", config=write_config(root, tmp_path)).stdout
    assert "check_markers" in planned
    assert "simulate_reference" not in planned
    assert "check_reference" not in planned
    assert "compare_labels" not in planned, "ways to label are compared only where the config asks for it"


def test_every_cell_has_a_label_or_a_reason_and_clusters_say_theirs(run):
    for sample in ("sim_train", "sim_lung"):
        folder = run / R / "samples" / sample
        frame = pd.read_parquet(folder / "annotation.parquet")
        assert {"marker_type", "cluster"} <= set(frame.columns)
        assert set(frame["cell_type"].dropna()) <= set(TYPES)
        assert (frame["cell_type"].notna() == (frame["reason"] == "labelled")).all()
        found = json.loads((folder / "annotation.json").read_text())
        assert found["method"] == "markers"
        sizes = frame["cluster"].value_counts()
        assert {item["cluster"]: item["cells"] for item in found["clusters"]} == sizes.to_dict()
        assert all(item["by"] for item in found["clusters"])
        epithelial = [item for item in found["clusters"] if item["voted"] == "Epithelial"]
        assert epithelial
        assert all(0 <= item["cancer"]["chance"] <= 1 for item in epithelial)


def test_clusters_agree_with_the_table_where_types_lie_apart(run):
    found = json.loads((run / R / "samples/sim_train/annotation.json").read_text())
    assert found["agreement"]["table"]["share"] > 0.9


def test_the_neoplastic_step_finds_the_tumour_among_the_epithelium(run):
    table = pd.read_csv(run / R / "samples/sim_train/label_comparison.csv", keep_default_na=False)
    accuracy = table[table["way"] == "markers"].set_index("variant")["accuracy"]
    without, own = (accuracy[f"resolution 4, neoplastic {rule}"] for rule in ("none", "enrichment"))
    assert own > without + 0.1


def test_ways_to_label_are_compared_on_the_same_cells(run):
    table = pd.read_csv(run / R / "samples/sim_train/label_comparison.csv", keep_default_na=False)
    assert set(table["way"]) == {"markers", "aucell", "ucell", "top_down"}
    assert table["cells"].nunique() == table["table_cells"].nunique() == 1
    assert table["used"].sum() == 1
    own = table[table["used"]].iloc[0]
    assert (own["variant"], own["as_labels"]) == ("resolution 4, neoplastic enrichment", 1)
    confusion = pd.read_csv(run / R / "samples/sim_train/label_confusion.csv", keep_default_na=False)
    sums = confusion.groupby(["way", "variant"])["cells"].sum()
    assert (sums == own["table_cells"]).all()


def test_nothing_is_made_twice(run, snake, root):
    planned = snake(run, "--dry-run", "labels", config=run / "markers.yaml").stdout
    assert "Nothing to be done" in planned
