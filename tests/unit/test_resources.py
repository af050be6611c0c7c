"""What jobs ask for: more for larger input, more with each attempt, never without an answer."""

import json
import re

import pytest

from shest.core.errors import InputError
from shest.encode import device
from shest.encode.spec import complete
from shest.io.store import stored_bytes
from shest.run import estimate, resources
from shest.systems import base

MORPHOMETRICS = complete("morphometrics")
TRAIN = {"reconstructor_hidden": [2048, 4096], "epochs": 40, "members": 3}


def write_record(path, cells=1000, genes=300, **stored):
    path.write_text(json.dumps({"cells": cells, "genes": genes, "stored_bytes": stored}))
    return str(path)


def test_an_attempt_asks_for_half_as_much_again():
    assert [resources.scale_by_attempt(1000, n) for n in (1, 2, 3)] == [1000, 1500, 2250]
    assert resources.scale_by_attempt(0.2, 1) == 1


def test_a_request_grows_with_the_named_inputs_and_the_store(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    (tmp_path / "b").write_bytes(bytes(1_000_000))
    record = write_record(tmp_path / "ingest.json", tables=5_000_000, shapes=2_000_000)
    files = {"parts": [str(tmp_path / "a"), str(tmp_path / "b")], "none": [], "ingest": [record, record]}
    assert resources.request_mb(100, {}, files.get) == 100
    assert resources.request_mb(100, {"parts": 2}, files.get) == pytest.approx(108)
    assert resources.request_mb(100, {"none": 2}, files.get) == 100
    assert resources.request_mb(100, {"tables": 10, "shapes": 1}, files.get) == pytest.approx(204)
    assert resources.request_mb(100, {"images": 10}, files.get) == 100, "a store without that part, or of an older run"


def test_a_file_that_is_not_there_yet_is_said_by_its_name(tmp_path):
    # Snakemake takes exactly this error, with this name, for: not known yet
    for factor, name in (({"parts": 1}, "parts"), ({"tables": 1}, "ingest")):
        with pytest.raises(FileNotFoundError) as error:
            resources.request_mb(1, factor, {name: [str(tmp_path / "later")]}.get)
        assert error.value.filename == str(tmp_path / "later")


def test_a_store_is_measured_by_its_parts(tmp_path):
    (tmp_path / "images/he").mkdir(parents=True)
    (tmp_path / "images/he/0").write_bytes(bytes(70))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/x").write_bytes(bytes(5))
    assert stored_bytes(tmp_path) == {"images": 70, "shapes": 0, "tables": 5}


def test_an_encoder_asks_for_room_for_its_weights(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(10_000_000))
    for path in (tmp_path, weights):
        own = complete({"name": "own", "architecture": "vit", "features": 8, "weights": str(path)})
        assert resources.encoder_mb(own, 4) == pytest.approx(4030)
    assert resources.encoder_mb(complete("h-optimus-0"), 4) > 3 * 4500
    assert resources.encoder_mb(MORPHOMETRICS, 8) > resources.encoder_mb(MORPHOMETRICS, 1)


def test_encoding_takes_less_on_a_gpu_and_never_more_than_a_day():
    own = complete({"name": "own", "architecture": "vit", "features": 8, "weights": "random"})
    cpu, gpu_ = (resources.encoding_minutes(own, 20_000, 8, on) for on in (False, True))
    assert gpu_ < cpu
    assert gpu_ > 30
    assert resources.encoding_minutes(own, 1e9, 8, False) == resources.LONGEST
    assert resources.encoding_minutes(MORPHOMETRICS, 1e6, 8, False) < resources.encoding_minutes(own, 1e6, 8, False)
    assert resources.encoding_minutes(own | {"gflop": 1}, 20_000, 8, False) < cpu


def test_a_request_is_the_estimate_with_slack(tmp_path):
    record = write_record(tmp_path / "a.json", cells=100_000, genes=5000)
    spent = estimate.training_seconds(100_000, 5000, 1536, TRAIN, 8, False)
    assert resources.training_minutes([record], 1536, TRAIN, 8, False) == 20 + resources.SLACK * spent / 60
    spent = estimate.encoding_seconds(20_000, "h-optimus-0", 608, 8, True)
    assert resources.encoding_minutes(complete("h-optimus-0"), 20_000, 8, True) == 30 + resources.SLACK * spent / 60


def test_training_time_follows_cells_genes_members_and_device(tmp_path):
    small, large = (write_record(tmp_path / f"{n}.json", cells=n, genes=5000) for n in (10_000, 100_000))
    spent = resources.training_minutes([small], 1536, TRAIN, 8, False)
    assert resources.training_minutes([large], 1536, TRAIN, 8, False) > spent
    assert resources.training_minutes([small, small], 1536, TRAIN, 8, False) > spent
    assert resources.training_minutes([small], 1536, TRAIN | {"members": 5}, 8, False) > spent
    assert resources.training_minutes([small], 1536, TRAIN, 8, True) < spent


def test_only_a_job_that_was_given_a_gpu_looks_for_one(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for nothing in ({}, {"gpu": 0}, {"gres": ""}, {"gres": "none"}, {"gres": None, "mem_mb": 5}, {"gres": "lustre:1"}):
        assert device.check(nothing) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    for asked in ({"gpu": 1}, {"gres": "gpu:1"}, {"gres": "gpu"}, {"gres": "gpu:a100:2"}):
        with pytest.raises(InputError, match=r"job 12 on .*a GPU was asked for.*CUDA_VISIBLE_DEVICES 7.*gres: gpu:1"):
            device.check(asked)


@pytest.mark.gpu
def test_the_gpu_that_was_given_is_named(caplog):
    import torch

    with caplog.at_level("INFO", "shest"):
        assert device.check({"gpu": 1}) == torch.cuda.get_device_name(0)
    assert torch.cuda.get_device_name(0) in caplog.text


def rules(root):
    """Name and text of every rule that runs something, from all rule files."""
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for body in re.split(r"^ *(?:rule|checkpoint)\b", path.read_text(), flags=re.M)[1:]:
            if re.search(r"^ *(script|shell|run):", body, flags=re.M):
                yield f"{path.name}:{body.split(':')[0].strip()}", body


def test_every_rule_asks_for_memory_and_time_that_grow(root):
    makers = ("from_input_size(", "encoder_mb", "encoding_minutes(", "lambda w, attempt", "further_views_m", "fit_min")
    found = list(rules(root))
    assert len(found) > 20
    for name, body in found:
        for resource in ("mem_mb", "runtime"):
            given = re.search(rf"^ *{resource}=(.*)$", body, flags=re.M)
            assert given, f"{name} lacks {resource}"
            assert given[1].startswith(makers), f"{name}: {resource}={given[1]} does not grow with the attempt"


def test_a_kind_of_system_says_how_long_it_takes():
    settings = base.settings_of({"kind": "nuclei"}, {"seed": 42})
    seconds = base.spec_of("nuclei").fit_seconds
    assert 600 < seconds(settings, 2, False) < 3600
    assert seconds(settings | {"steps": 2 * settings["steps"]}, 2, False) == 2 * seconds(settings, 2, False)
    assert seconds(settings, 4, False) < seconds(settings, 2, False)
    assert resources.fitting_minutes(600) == 20 + resources.SLACK * 10
    assert resources.fitting_minutes(1e9) == resources.LONGEST
