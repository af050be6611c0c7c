"""Labels from expression alone on real bundles: the experts' tables are kept back, and only judge them."""

import json

import pandas as pd
import pytest
import yaml

from shest.draw.summary import label_doubts

pytestmark = [pytest.mark.kit, pytest.mark.slow]
ROLES = {"colon_train": "train", "lung_train": "train", "lung_validation": "validation"}


def agreement(snake, root, kit, folder, **settings):
    """Annotate the kit without its tables; return each sample's share of the experts' cells with their type."""
    config = yaml.safe_load((root / "config/kit.yaml").read_text())
    (folder / "labels.yaml").write_text(yaml.safe_dump(config | {"samples": "labels.tsv", "annotate": settings}))
    rows = [f"{name}\t{role}\t{kit / name}" for name, role in ROLES.items()]
    (folder / "labels.tsv").write_text("\n".join(["sample\trole\tpath", *rows]) + "\n")
    samples = folder / config["results"] / "samples"
    targets = [str((samples / name / "annotation.json").relative_to(folder)) for name in ROLES]
    snake(folder, "--nolock", *targets, config=folder / "labels.yaml", SHEST_KIT=str(kit))
    found = {}
    for name in ROLES:
        experts = pd.read_csv(kit / name / "he_annotation.csv", dtype=str).set_index("cell_id")["group"].dropna()
        labels = pd.read_parquet(samples / name / "annotation.parquet").set_index("cell_id")["cell_type"]
        found[name] = (labels.reindex(experts.index) == experts).mean()
    return found, {name: json.loads((samples / name / "annotation.json").read_text()) for name in ROLES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("labels")


def test_labels_without_a_table_agree_with_the_experts(snake, root, kit, folder):
    shares, summaries = agreement(snake, root, kit, folder)
    assert min(shares.values()) >= 0.76, shares
    for summary in summaries.values():
        assert (summary["method"], summary["prior"], summary["label"]) == ("tacco", "estimated", "agree")
        assert summary["doubts"] == []
        assert summary["agreement"]["table"] is None


def test_the_mixtures_own_labels_agree_with_the_experts(snake, root, kit, folder):
    shares, _ = agreement(snake, root, kit, folder, method="mixture")
    assert min(shares.values()) >= 0.8, shares


def test_the_references_composition_is_doubted_where_the_tissues_differs(snake, root, kit, folder):
    shares, summaries = agreement(snake, root, kit, folder, prior="reference")
    assert max(shares.values()) < 0.7, shares
    for summary in summaries.values():
        assert summary["doubts"][0].startswith("The labels follow the reference's composition")


def test_labels_by_marker_genes_stand_beside_tacco_and_the_report_says_which_is_better(snake, kit, folder):
    """A panel of immune genes names tumours badly, and the kit's cells are copies of few: both must be said."""
    types = {
        "Tumor_cell": {"subtypes": ["Epithelial"], "categories": ["Epithelial", "Neoplastic"]},
        "Inflammatory": {"subtypes": ["Lymphocyte", "Plasma", "Myeloid"], "groups": ["Lymphocyte", "Macrophage"]},
        "Connective": {"subtypes": ["Fibroblast", "Vascular"], "groups": ["Fibroblast", "Endothelial_cell"]},
    }
    config = {
        "results": "results/markers",
        "samples": "markers.tsv",
        "reference": {"path": "$SHEST_KIT/reference.h5ad"},
        "cell_types": types,
        "annotate": {"method": "markers", "label": "expression", "compare": ["tacco", "ucell"]},
    }
    (folder / "markers.yaml").write_text(yaml.safe_dump(config))
    columns, row = ["sample", "role", "path", "annotation", "organ"], kit / "lung_train"
    values = ["lung_train", "train", str(row), str(row / "he_annotation.csv"), "lung"]
    (folder / "markers.tsv").write_text("\t".join(columns) + "\n" + "\t".join(values) + "\n")
    snake(folder, "--nolock", "labels", config=folder / "markers.yaml", SHEST_KIT=str(kit))
    samples = folder / "results/markers/samples/lung_train"
    table = pd.read_csv(samples / "label_comparison.csv")
    accuracy = table.set_index(["way", table["variant"].fillna("")])["accuracy"]
    assert accuracy["tacco", "prior estimated"] > 0.85
    assert 0.5 < accuracy["markers", "resolution 4, neoplastic enrichment"] < accuracy["tacco", "prior estimated"]
    (said,) = label_doubts("lung_train", table)
    assert "tacco (prior estimated) agrees on 88%" in said
    doubts = " ".join(json.loads((samples / "annotation.json").read_text())["doubts"])
    assert "cells have counts of their own" in doubts
