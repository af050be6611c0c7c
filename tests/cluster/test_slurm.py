"""The workflow on a real SLURM: the same results as on this machine, and every way a job can fail."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from node import wait_for
from PIL import Image

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
R = "results/tiny"
EMBEDDINGS = f"{R}/embeddings/morphometrics"


@pytest.fixture(scope="module")
def finished(submit, tmp_path_factory) -> Path:
    """A folder with a run through SLURM from start to report; its log is run.log."""
    folder = tmp_path_factory.mktemp("finished")
    run = submit(folder)
    status = run.wait()
    assert status == 0, run.said[-6000:]
    shutil.copy(run.log, folder / "run.log")
    (folder / "submitted.json").write_text(json.dumps(run.submitted()))
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """That folder, to be changed."""
    return shutil.copytree(finished, tmp_path / "run", symlinks=True)


def forget_embeddings(folder: Path) -> None:
    """Remove all embeddings, in the cache as in the results; the encoder stays settled."""
    shutil.rmtree(folder / "results/cache")
    for sample in (folder / EMBEDDINGS).glob("sim_*"):
        shutil.rmtree(sample)


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same: every byte, or of pictures every pixel but for the edges of letters.

    matplotlib's layout adds up positions in an order that differs from process to process: in the last digits.
    """
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix != ".png":
        return False
    first, second = (np.asarray(Image.open(path).convert("RGB"), dtype=int) for path in (one, other))
    return first.shape == second.shape and np.abs(first - second).max() <= 16


def results_of(folder: Path) -> dict[str, Path]:
    """Files of a run that hold results, by name: not logs, times, costs, pages with a date, or how jobs were cut."""
    found = {}
    for path in sorted((folder / R).rglob("*")):
        name = path.relative_to(folder / R).as_posix()
        apart = (
            name.startswith(("logs/", "benchmarks/"))
            or "/parts/" in name
            or ".costs." in name
            or path.suffix in (".pdf", ".html")
        )
        if path.is_file() and not apart:
            found[name] = path
    return found


def test_a_sample_is_some_ten_jobs_and_every_one_asks_for_memory_and_time(finished, node):
    submitted = json.loads((finished / "submitted.json").read_text())
    of_sample = [name for name in submitted if "sim_train" in name]
    assert len([name for name in of_sample if "embed_part" in name]) == 2
    assert len(submitted) < 60
    assert not any(name.startswith(("rule_all", "rule_embed/", "rule_model_card")) for name in submitted)
    assert any(name.startswith("group_image") for name in submitted)
    asked = [line.split("|") for line in node.ask("squeue", "-h", "--states=all", "-o", "%k|%m|%l|%C").splitlines()]
    assert len(asked) >= len(submitted)
    for comment, memory, limit, cores in asked:
        assert int(memory.rstrip("MG")) > 0, comment
        assert limit.count(":") in (1, 2), comment
        assert limit not in ("UNLIMITED", "1-00:00:00"), comment
        assert int(cores) <= 3, comment  # two of evaluate and one of viewers in a job that they share


def test_the_logs_of_jobs_that_ended_well_are_cleared_and_those_of_rules_are_kept(finished):
    assert not list((finished / "results/logs/slurm").rglob("*.log"))
    assert (finished / R / "logs/embed/morphometrics/sim_train.2-of-2.log").is_file()


def test_results_are_those_of_the_local_run(finished, tiny):
    here, there = results_of(tiny), results_of(finished)
    assert set(here) == set(there)
    assert len(here) > 100
    different = [name for name in here if not same(here[name], there[name])]
    assert different == []
    cached = [p.relative_to(tiny) for p in (tiny / "results/cache").rglob("*.npy")]
    assert cached
    assert all((tiny / name).read_bytes() == (finished / name).read_bytes() for name in cached)


def test_a_failing_job_is_named_with_its_log_and_then_only_it_runs_again(copy, submit):
    forget_embeddings(copy)
    shards = list((copy / R / "samples/sim_lung/tiles").glob("*.safetensors"))
    for shard in shards:
        shard.rename(copy / shard.name)
    targets = [f"{EMBEDDINGS}/{sample}/embeddings.json" for sample in ("sim_train", "sim_lung")]
    run = submit(copy, "--retries", "0", "--", *targets)
    assert run.wait() != 0
    assert (copy / targets[0]).is_file(), "a failure stopped what does not depend on it"
    assert not (copy / targets[1]).exists()
    assert "Error in rule embed_part" in run.said
    log = f"{R}/logs/embed/morphometrics/sim_lung.1-of-2.log"
    assert log in run.said.split("Error in rule embed_part", 1)[1]
    assert shards[0].name in (copy / log).read_text()
    assert list((copy / "results/logs/slurm").rglob("*.log")), "the log of the SLURM job is gone"
    for shard in shards:
        (copy / shard.name).rename(shard)
    again = submit(copy, "--", *targets)
    assert again.wait() == 0, again.said[-4000:]
    assert again.submitted() == ["rule_embed_part/morphometrics_sim_lung_1_2"]


def test_slurmd_that_dies_in_the_middle_of_a_job_harms_nothing(copy, finished, submit, node):
    forget_embeddings(copy)
    target = f"{EMBEDDINGS}/sim_train/embeddings.json"
    log = copy / R / "logs/embed/morphometrics/sim_train.1-of-2.log"
    log.unlink()
    run = submit(copy, "--", target)
    wait_for(lambda: log.exists() and "encoding with" in log.read_text(), "the encoder to start", 120)
    node.kill_slurmd()
    assert not (copy / target).exists()
    time.sleep(3)
    node.start_slurmd()
    assert run.wait() == 0, run.said[-4000:]
    assert (copy / target).read_bytes() == (finished / target).read_bytes()
    for path in (copy / "results/cache").rglob("*.npy"):
        assert path.read_bytes() == (finished / path.relative_to(copy)).read_bytes()


def test_a_job_that_outgrows_its_memory_is_killed_and_tried_again_with_more(copy, submit, node):
    target = f"{R}/samples/sim_lung/annotation.parquet"
    before = (copy / target).read_bytes()
    seen = set(node.ask("squeue", "-h", "--states=all", "-o", "%i").split())
    run = submit(copy, "--forcerun", "annotate", "--set-resources", "annotate:mem_mb=attempt * 450", "--", target)
    assert run.wait() == 0, run.said[-4000:]
    lines = [line.split("|") for line in node.ask("squeue", "-h", "--states=all", "-o", "%i|%m|%T").splitlines()]
    new = sorted((int(job), memory, state) for job, memory, state in lines if job not in seen)
    assert [memory for _, memory, _ in new] == ["450M", "900M"]
    assert new[0][2] in ("FAILED", "OUT_OF_MEMORY")
    assert new[1][2] == "COMPLETED"
    assert "Trying to restart job" in run.said
    assert (copy / target).read_bytes() == before


def edited_profile(root: Path, folder: Path, asked: str) -> Path:
    """The profile as a site with GPUs edits it: the lines that ask for one no longer comments."""
    text = (root / "workflow/profiles/slurm/config.yaml").read_text()
    lines = re.search(r"# set-resources:\n(#   .*\n)+", text)[0]
    opened = "".join(line.removeprefix("# ") for line in lines.splitlines(keepends=True))
    folder.mkdir()
    (folder / "config.yaml").write_text(text.replace(lines, opened.replace("    gpu: 1\n", f"    {asked}\n")))
    return folder


@pytest.mark.parametrize("asked", ["gpu: 1", 'gres: "gpu:1"', "gpu: 0"])
def test_a_gpu_is_asked_for_as_the_site_wants_it_and_missed_at_once(copy, submit, node, root, tmp_path, asked):
    log = copy / R / "logs/encoder/morphometrics.log"
    profile = edited_profile(root, tmp_path / "profile", asked)
    arguments = ["--retries", "0", "--forcerun", "encoder", "--", f"{EMBEDDINGS}/encoder.json"]
    run = submit(copy, *arguments, profile=profile)
    status = run.wait()
    last = max(node.ask("squeue", "-h", "--states=all", "-o", "%i").split(), key=int)
    job = node.ask("scontrol", "show", "job", last)
    assert "Partition=gpu" in job
    given_gpu = re.search(r"TresPer\w+=\S*gpu", job)
    said = log.read_text()
    if asked == "gpu: 0":
        assert status == 0, run.said[-3000:]
        assert not given_gpu, job
        return
    assert status != 0
    assert given_gpu, job
    assert "ERROR job " in said
    assert "a GPU was asked for and torch sees none" in said
    assert "nvidia-smi" in said
    assert "Traceback" not in said
    assert "a GPU was asked for" in run.said, "the reason is not in what snakemake says"
