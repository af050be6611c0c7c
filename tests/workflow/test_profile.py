"""The profiles: every rule they name is there, and every rule that looks for a GPU is given one."""

import re
from pathlib import Path

import pytest
import yaml


def profile(root: Path, opened: bool, name: str = "slurm") -> dict:
    """A profile as it stands, or with the lines on GPUs no longer comments."""
    text = (root / f"workflow/profiles/{name}/config.yaml").read_text()
    if opened:
        text = re.sub(r"^# (set-resources:| {2}.*)$", r"\1", text, flags=re.M)
    return yaml.safe_load(text)


def test_every_rule_that_the_profile_groups_is_there(root, rules):
    assert set(profile(root, False)["groups"]) <= {rule.name for rule in rules}


def test_a_group_leaves_out_no_rule_between_two_of_its_own(snake, tmp_path, root):
    """Snakemake finds that out when it plans, and plans by groups for a cluster only."""
    planned = snake(tmp_path, "--profile", str(root / "workflow/profiles/slurm"), "--dry-run").stdout
    assert "Job stats:" in planned


def test_the_profile_gives_a_gpu_to_every_rule_that_looks_for_one(root, rules):
    scripts = root / "workflow/scripts"
    looks = {path.name for path in scripts.glob("*.py") if "device.check(snakemake.resources)" in path.read_text()}
    uses = {rule.name for rule in rules if rule.script and Path(rule.script).name in looks}
    assert uses == {"encoder", "embed_part", "embed_spots", "embed_views", "fit", "probe", "apply_slide"}
    for name, opened in (("slurm", True), ("gpu", False)):
        given = profile(root, opened, name)["set-resources"]
        assert set(given) == uses
        assert all(resources["gpu"] == 1 for resources in given.values())
    assert "set-resources" not in profile(root, False), "a GPU would be asked for where there is none"


def test_a_workstation_without_its_gpu_hears_of_it_at_once(snake, copy_of_tiny, root):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    target = "results/tiny/embeddings/morphometrics/encoder.json"
    chosen = ["--profile", str(root / "workflow/profiles/gpu"), "--forcerun", "encoder", "--", target]
    done = snake(copy_of_tiny, *chosen, check=False)
    assert done.returncode != 0
    assert "a GPU was asked for and torch sees none" in done.stdout
    assert "Traceback" not in done.stdout
