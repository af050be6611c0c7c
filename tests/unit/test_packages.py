"""Packages: what their probe and checksums catch, and where a slide's cells lie among the training cells."""

import numpy as np
import pytest

from shest.core import files
from shest.core.errors import Findings, InputError
from shest.run import packages
from shest.score import composition
from shest.score.domain import Domain, doubts, quantile_of
from shest.score.neighbourhood import neighbourhood

INFO = {
    "system": "linear",
    "kind": "linear",
    "protocol": "strict",
    "settings": {"c": 1},
    "package": {
        "format": packages.FORMAT,
        "encoder": {"name": "small", "entry": {"name": "small", "architecture": "vit", "weights": "/there"}},
        "window_um": 16,
        "cells": {"min_um": 2},
        "cell_types": {"A": {"subtypes": ["a"]}},
    },
}


@pytest.fixture
def package(tmp_path):
    for name in ("m", "c"):
        (tmp_path / name).write_text(name)
    parts = {packages.MODEL: tmp_path / "m", packages.CARD: tmp_path / "c"}
    packages.write(tmp_path / "package", parts, INFO, {"windows": np.zeros((2, 4, 4, 3), np.uint8)})
    return tmp_path / "package"


def test_a_package_is_read_as_it_was_written(package):
    opened = packages.open_package(package)
    assert (opened.system, opened.facts["window_um"]) == ("linear", 16)
    assert packages.read_probe(opened)[0]["windows"].shape == (2, 4, 4, 3)


def test_whoever_may_read_the_card_may_read_the_tensors(package):
    modes = {path.name: path.stat().st_mode for path in package.iterdir()}
    assert modes[packages.PROBE] == modes[packages.RECORD]


@pytest.mark.parametrize("name", [packages.MODEL, packages.CARD, packages.PROBE, packages.RECORD])
def test_a_file_that_was_changed_or_lost_is_named(package, name):
    text = (package / name).read_bytes()
    (package / name).write_bytes(text + b" ")
    with pytest.raises(InputError, match=rf"{name}: is not the file that checksums.txt names"):
        packages.open_package(package)
    (package / name).unlink()
    with pytest.raises(InputError, match=rf"{name}.* is not there"):
        packages.open_package(package)


def test_a_model_that_is_no_package_is_said(tmp_path):
    files.write_json(tmp_path / "model.json", {"system": "x"})
    with pytest.raises(InputError, match="a model, but no package"):
        packages.read_record(tmp_path)


def test_the_package_settles_types_encoder_and_system():
    findings, own = Findings(), {"name": "small", "weights": "/here", "features": 3}
    config = {"samples": "a.tsv", "encoders": [own], "tiles": {"block_px": 512}}
    filled = packages.configure(config, packages.Path("/nowhere"), INFO, "x.yaml", findings)
    assert filled["encoders"] == [{"name": "small", "architecture": "vit", "weights": "/here"}]
    assert filled["systems"] == {"linear": {"kind": "linear", "settings": {"c": 1}, "encoder": "small"}}
    assert filled["tiles"] == {"block_px": 512, "window_um": 16}
    assert not findings.problems
    packages.configure(config | {"cell_types": {}}, packages.Path("/nowhere"), INFO, "x.yaml", findings)
    assert "cell_types is settled by the package" in str(findings.problems[0])


def answers(seed=0, n=6):
    rng = np.random.default_rng(seed)
    return {
        "embeddings": rng.normal(size=(n, 8)).astype(np.float32),
        "probabilities": rng.dirichlet(np.ones(3), n).astype(np.float32),
        "expression": rng.gamma(1, size=(n, 5)).astype(np.float32),
    }


def refusal(known, embeddings, own, same):
    return packages.refusal(packages.judge(known, embeddings, own, same))


def test_the_probe_tells_weights_from_encoder():
    known = answers()
    assert refusal(known, known["embeddings"], known, known) is None
    nearly = known["embeddings"] * 1.001
    assert refusal(known, nearly, known, known) is None
    assert "the probe fails: embeddings: a difference of 0.1," in refusal(
        known, known["embeddings"] * 1.1, known, known
    )
    wide = np.zeros((6, 9), np.float32)
    assert "embeddings: another shape" in refusal(known, wide, known, known)
    other = known | {"probabilities": known["probabilities"][:, ::-1]}
    said = refusal(known, known["embeddings"], other, other)
    assert "probabilities on the probe's own embeddings" in said
    assert "weights" in said
    broken = known | {"expression": np.full((6, 5), np.nan, np.float32)}
    assert "expression" in refusal(known, known["embeddings"], broken, broken)


def test_training_cells_lie_in_their_own_domain_and_others_do_not():
    rng = np.random.default_rng(1)
    x, colour, size = rng.normal(size=(4000, 30)), rng.normal(180, 12, (4000, 3)), rng.normal(7, 1, 4000)
    domain = Domain.restore(Domain.of(x[:3000], colour[:3000], size[:3000]).tensors())
    own = domain.compare(x[3000:], colour[3000:], size[3000:])
    for place in own.values():
        assert place["median"] == pytest.approx(0.5, abs=0.08)
        assert place["beyond"] < 0.03
    assert doubts(own) == []
    far = domain.compare(x[3000:] * 3, colour[3000:] + np.array([40, 0, -40]), size[3000:] + 5)
    said = " ".join(doubts(far))
    assert far["embedding"]["beyond"] > 0.9
    assert "look unlike any training cell" in said
    assert "redder, less blue" in said
    assert "green" not in said
    assert "nuclei are larger" in said


def test_quantiles_count_half_of_what_is_equal():
    assert quantile_of(np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_interval_of_a_composition_covers_its_draws():
    rng = np.random.default_rng(2)
    p = rng.dirichlet([1, 2, 3], 400)
    parts = composition.composition(p, ["a", "b", "c"], 2.0)
    drawn = np.array([[(rng.random(400) < p[:, k]).mean() for k in range(3)] for _ in range(2000)])
    for k, part in enumerate(parts):
        covered = ((drawn[:, k] >= part["low"]) & (drawn[:, k] <= part["high"])).mean()
        assert 0.93 < covered < 0.97
        assert part["per_mm2"] == pytest.approx(part["expected"] / 2)
    assert sum(part["called"] for part in parts) == 400


def test_neighbours_of_stripes_are_their_own():
    import pandas as pd

    rng = np.random.default_rng(3)
    xy = rng.uniform(0, 100, (600, 2))
    kind = pd.Series(np.where(xy[:, 0] < 50, "left", "right"))
    z = {(row["type"], row["beside"]): row["z"] for row in neighbourhood(kind, xy)}
    assert z["left", "left"] > 10
    assert z["left", "right"] < -10
    assert neighbourhood(kind[:20], xy[:20]) == []
