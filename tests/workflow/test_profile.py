"""The SLURM profile and what docs/cluster.md says to type: everything named in them is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

DOCUMENTED = re.findall(
    r"^snakemake (--profile .*?|--configfile .*?)(?: *#.*)?$",
    Path(__file__).resolve().parents[2].joinpath("docs/cluster.md").read_text(),
    flags=re.M,
)


def rules(root: Path) -> dict[str, str]:
    """Text of every rule by its name."""
    found = {}
    for path in (root / "workflow/rules").glob("*.smk"):
        for body in re.split(r"^(?:rule|checkpoint|use rule \w+ as) ", path.read_text(), flags=re.M)[1:]:
            found[re.match(r"\w+", body)[0]] = body
    return found


def profile(root: Path, opened: bool, name: str = "slurm") -> dict:
    """A profile as it stands, or with the lines on GPUs no longer comments."""
    text = (root / f"workflow/profiles/{name}/config.yaml").read_text()
    if opened:
        text = re.sub(r"^# (set-resources:| {2}.*)$", r"\1", text, flags=re.M)
    return yaml.safe_load(text)


def test_every_rule_that_the_profile_groups_is_there(root):
    assert set(profile(root, False)["groups"]) <= set(rules(root))


def test_the_profile_gives_a_gpu_to_every_rule_that_looks_for_one(root):
    uses = {name for name, body in rules(root).items()
            for script in re.findall(r'"\.\./(scripts/\w+\.py)"', body)
            if "gpu.check(" in (root / "workflow" / script).read_text()}  # fmt: skip
    assert uses == {"encoder", "embed_part", "embed_views", "train"}
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


@pytest.mark.parametrize(
    "arguments", [line for line in dict.fromkeys(DOCUMENTED) if "--sdm" not in line and ">" not in line]
)
def test_what_the_page_on_clusters_says_can_be_typed(arguments, snake, tiny, root):
    words = [word for word in shlex.split(arguments) if word not in ("--configfile", "config/mine.yaml", "--dry-run")]
    words = [str(root / word) if word.startswith("workflow/") else word for word in words]
    extra = [] if {"--unlock", "--summary"} & set(words) else ["--dry-run"]
    assert "rror" not in snake(tiny, *words, *extra).stdout.split("Job stats")[0]


def test_the_page_on_clusters_has_commands():
    assert len(DOCUMENTED) >= 6
