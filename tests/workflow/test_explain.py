"""Which nuclei drive a predicted expression, on the shared run."""

import numpy as np
import pandas as pd
import pytest

from shest.systems import base

R = "results/tiny"
ALLOWED = ("--allowed-rules", "explain", "explain_units", "--")


def explained(genes, **settings):
    return {"sample": "sim_train", "genes": genes, "windows": 60} | settings


def test_units_are_explained(snake, copy_of_tiny, changed):
    cells = pd.read_parquet(copy_of_tiny / R / "samples/sim_train/cells.parquet").query("kept")["cell_id"]
    model = base.load(copy_of_tiny / R / "models/shest/strict/all/model.safetensors")
    genes = model.genes[:2]
    settings = explained(genes, units=[cells.iloc[5], cells.iloc[60]])
    config = changed(explain=settings)
    snake(copy_of_tiny, *ALLOWED, "explain", config=config)
    folder = copy_of_tiny / R / "explain/shest/strict/sim_train"
    assert len(list(folder.glob("*.png"))) == 4
    weights = pd.read_csv(folder / "weights.csv", dtype={"nucleus": str})
    assert set(weights["unit"]) == {cells.iloc[5], cells.iloc[60]}
    assert set(weights["gene"]) == set(genes)
    for unit, part in weights.groupby("unit"):
        assert unit in set(part["nucleus"]), "the unit's own nucleus is one of the parts"
        assert part["nucleus"].isna().sum() == 2, "the ground, once a gene"
    snake(copy_of_tiny, *ALLOWED, "explain", config=changed(explain=settings | {"of": "high"}))
    high = pd.read_csv(folder / "weights.csv")
    assert list(high["unit"]) == list(weights["unit"])
    assert high["weight"].abs().max() <= 1.5, "of a probability"
    assert not np.allclose(high["weight"], weights["weight"])
    done = snake(
        copy_of_tiny, *ALLOWED, "explain", config=changed(explain=settings | {"genes": ["ABCA33"]}), check=False
    )
    assert done.returncode
    assert "no gene ABCA33 in the model. Did you mean ABCA3?" in done.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (explained(["X"], sample="sim_trian"), "no sample sim_trian with cells in the sheet. Did you mean sim_train?"),
        (explained(["X"], system="linaer"), "no system linaer that reads embeddings of cells. Did you mean linear?"),
    ],
)
def test_what_cannot_be_explained_is_said_before_anything_runs(snake, tmp_path, changed, settings, said):
    done = snake(tmp_path, "--dry-run", "--", "explain", config=changed(explain=settings), check=False)
    assert done.returncode
    assert said in done.stdout
