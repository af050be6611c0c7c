"""The engine over its life: killed and continued, and the paper's encoder at full size."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from shest.core import files
from shest.encode import runner
from shest.encode.spec import complete
from shest.tiles import quadruple, shards

TINY = {"name": "tiny", "architecture": "vit_tiny_patch16_224", "weights": "random", "features": 192}
RUN = """
import json, sys, torch
from pathlib import Path
from shest.encode import runner
folder = Path(sys.argv[1])
record = json.loads((folder / "encoder.json").read_text())
work = [(shard, 0, None) for shard in json.loads((folder / "shards.json").read_text())]
print(runner.run(record, work, folder / "tiles", folder / sys.argv[2], 1), flush=True)
"""


def write_tiles(folder, cells, shards):
    rng = np.random.default_rng(0)
    (folder / "tiles").mkdir()
    entries = []
    for k in range(shards):
        windows = rng.integers(0, 255, (cells, 64, 64, 3), dtype=np.uint8)
        masks = np.packbits(rng.random((cells, 112 * 112)) < 0.3, axis=1)
        save_file({"windows": windows, "masks": masks}, folder / "tiles" / f"{k}")
        digest = files.sha256(folder / "tiles" / f"{k}")
        entries.append({"file": f"{k}", "sha256": digest, "cells": [f"{k}-{i}" for i in range(cells)]})
    files.write_json(folder / "shards.json", entries)
    return entries


def start(folder, root, cache):
    command = [sys.executable, "-c", RUN, str(folder), cache]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(root / "workflow")}, stdout=subprocess.PIPE)


def parts(folder):
    return {p.name: p for p in folder.rglob("*.npy") if not p.name.startswith(".")}


def test_a_killed_run_goes_on_with_what_is_missing_and_gives_the_same_bytes(tmp_path, root):
    write_tiles(tmp_path, cells=12, shards=8)
    (tmp_path / "encoder.json").write_text(json.dumps(runner.prepare(complete(TINY), "fp32", 4)))
    killed = start(tmp_path, root, "killed")
    deadline = time.monotonic() + 120
    while len(parts(tmp_path / "killed")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = parts(tmp_path / "killed")
    assert 2 <= len(done) < 8, "the run was not killed in its middle"
    before = {name: path.stat().st_mtime_ns for name, path in done.items()}
    out, _ = start(tmp_path, root, "killed").communicate()
    assert int(out) == 12 * (8 - len(done))
    assert {name: parts(tmp_path / "killed")[name].stat().st_mtime_ns for name in before} == before
    start(tmp_path, root, "whole").communicate()
    whole = parts(tmp_path / "whole")
    assert len(whole) == 8
    assert all(path.read_bytes() == parts(tmp_path / "killed")[name].read_bytes() for name, path in whole.items())


@pytest.mark.slow
def test_h_optimus_0_at_full_size_from_a_local_folder(tmp_path, monkeypatch):
    """Random weights in the published architecture: built, loaded offline, fingerprinted, equal to plain timm."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(3)
    plain = timm.create_model(
        "vit_giant_patch14_reg4_dinov2", img_size=224, init_values=1e-5, num_classes=0, global_pool="token"
    )
    assert sum(p.numel() for p in plain.parameters()) == 1_134_774_272
    plain.eval()
    save(plain.state_dict(), tmp_path / "model.safetensors")
    record = runner.prepare(complete({"name": "h-optimus-0", "weights": str(tmp_path)}), "bf16", 2)
    assert record["dim"] == 1536
    assert record["settings"]["weights_sha256"] == files.sha256(tmp_path / "model.safetensors")
    assert record["settings"]["mean"] == (0.707223, 0.578729, 0.703617)
    entry = write_tiles(tmp_path, cells=2, shards=1)[0]
    windows, masks = shards.read_shard(tmp_path / "tiles" / "0")
    found = runner.encode_cells(runner.load(record, torch.get_num_threads()), windows, masks, 0, lambda n: None)
    x = torch.from_numpy(quadruple.assemble(windows, masks)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(record["settings"][k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = plain((x - mean) / std).float()
    assert len(entry["cells"]) == 2
    similarity = torch.nn.functional.cosine_similarity(torch.from_numpy(found.astype(np.float32)), expected)
    assert similarity.min() >= 0.9999
