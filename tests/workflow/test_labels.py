"""Labels from expression alone on real bundles: the experts' tables are kept back, and only judge them."""

import json

import pandas as pd
import pytest
import yaml

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
