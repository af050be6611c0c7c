"""Every command of README and docs is run here, or by another test, or is marked as needing what no test has."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

NEEDS = {"network", "gpu", "the paper's data", "a token of the hub", "slurm", "conda"}
FENCE = re.compile(r"(?:<!-- needs: (?P<needs>[^>]*?) -->\n)?[ ]*```(?:bash|sh)\n(?P<body>.*?)\n[ ]*```", re.S)

# Commands that another test runs: all words of one of these stand in them. The test must be there.
ELSEWHERE = {
    "make kit": "tests/workflow/test_kit.py::test_scores_on_tissue_apart",
    "make apply": "tests/workflow/test_apply.py::test_the_config_for_the_demos_package_works",
    "CONFIG=config/apply.yaml": "tests/workflow/test_apply.py::test_the_config_for_the_demos_package_works",
    "config/apply.yaml": "tests/workflow/test_apply.py::test_the_config_for_the_demos_package_works",
    "make figures": "tests/workflow/test_figures.py::test_make_figures_draws_all_again_and_touches_no_model",
    "snakemake explain": "tests/workflow/test_explain.py::test_units_are_explained",
    "config/spots.yaml": "tests/workflow/test_spots.py::test_a_real_legacy_section",
    "snakemake --sdm conda": "tests/workflow/test_conda.py::test_the_whole_run_inside_them_gives_the_same_results",
}
# Commands that are the tests themselves, or run them: their recipe is expanded, nothing more.
EXPANDED = {"make demo", "make test", "make test-cluster", "make test-environments", "make .venv/installed"}
EXPANDED |= {"make bench", *(f"make bench CONFIG=config/bench-{name}.yaml" for name in ("kit", "her2st"))}
# Commands that only set a variable, or open an editor.
SETTING = re.compile(r"(export \w+=|\$EDITOR |squeue |cd )")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", root / "config/README.md", *sorted((root / "docs").glob("*.md"))]


def blocks(root: Path) -> list[tuple[str, set[str], list[str]]]:
    """(page, what it needs, commands) of every block of shell."""
    found = []
    for page in pages(root):
        for match in FENCE.finditer(page.read_text()):
            needs = {word.strip() for word in (match["needs"] or "").split(",") if word.strip()}
            text = match["body"].replace("\\\n", " ")
            lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
            found.append((page.name, needs, [line for line in lines if line and not line.startswith("#")]))
    return found


def commands(root: Path) -> list[str]:
    """Every command that has to work, once, in the order in which it is met."""
    return list(dict.fromkeys(line for _, needs, lines in blocks(root) if not needs for line in lines))


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """The project as a clone of it would be, with the environment of this one."""
    if not (root / ".venv/installed").is_file():
        pytest.skip("needs the environment that make installs")
    folder = tmp_path_factory.mktemp("clone")
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    for name in names.stdout.split("\n"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    (folder / ".venv").symlink_to(root / ".venv")
    for name in ("requirements.txt", "pyproject.toml"):  # else make would install the clone into this environment
        os.utime(folder / name, (1, 1))
    return folder


def run(folder: Path, command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"SHEST_KIT": "/nowhere", "OMP_NUM_THREADS": "1", "EDITOR": "true"}
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=600,
    )


def planned(command: str) -> str:
    """The same command, so that snakemake plans the run and does not start it."""
    head, pipe, tail = command.partition(" > ")
    dry = re.search(r"(?<!\S)(-n|--dry-run|--summary|--unlock|--lint|--containerize)(?!\S)", head)
    cores = "" if re.search(r"--cores|--profile", head) else " --cores 1"
    return head + cores + ("" if dry else " --dry-run") + pipe + tail


def test_needs_are_said_in_known_words(root):
    for page, needs, _ in blocks(root):
        assert needs <= NEEDS, f"{page}: {needs}"


def test_tests_that_run_a_command_are_there(root):
    for command, test in ELSEWHERE.items():
        path, name = test.split("::")
        assert f"def {name}(" in (root / path).read_text(), command


def test_every_link_of_the_docs_leads_somewhere(root):
    for page in pages(root):
        for target, part in re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)]*)?\)", page.read_text()):
            there = (page.parent / target).resolve() if target else page
            assert there.exists(), f"{page.name}: {target}"
            if part and there.suffix == ".md":
                heads = re.findall(r"^#+ (.+)$", there.read_text(), flags=re.M)
                assert part[1:] in {anchor(head) for head in heads}, f"{page.name}: {target}{part}"


def anchor(head: str) -> str:
    """Anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


def test_every_config_in_the_docs_is_yaml_with_known_keys(root):
    schema = yaml.safe_load((root / "workflow/shest/run/schemas/config.schema.yaml").read_text())
    for page in pages(root):
        for body in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), flags=re.S | re.M):
            data = yaml.safe_load(body)
            assert set(data) <= set(schema["properties"]), f"{page.name}: {list(data)}"


def test_every_command_works(root, clone):
    """In one test and in their order: they build on each other, as they do for a reader."""
    for command in commands(root):
        elsewhere = any(set(words.split()) <= set(command.split()) for words in ELSEWHERE)
        if elsewhere or SETTING.match(command):
            continue
        if command in EXPANDED or command.startswith("make benchmark-"):
            done = run(clone, f"make --dry-run {command.removeprefix('make ')}")
        elif command.startswith("snakemake "):
            done = run(clone, f"source .venv/bin/activate && {planned(command)}")
        elif command.startswith(("make ", "cp ", "source ")):
            done = run(clone, command)
        else:
            pytest.fail(f"no test runs, and nothing says what it needs: {command}")
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
        if command == "cp config/template.tsv config/mine.tsv":
            write_mine(clone)


def write_mine(clone: Path) -> None:
    """Edit the copied templates as a reader does: here to the data of the small demo."""
    config = yaml.safe_load((clone / "config/tiny.yaml").read_text())
    assert set(yaml.safe_load((clone / "config/mine.yaml").read_text())) <= set(config) | {"encoders"}
    sheet = yaml.safe_load((clone / "config/mine.yaml").read_text())["samples"]
    assert (clone / "config" / sheet).is_file()
    (clone / "config/mine.yaml").write_text(yaml.safe_dump(config | {"samples": sheet, "results": "results/mine"}))
    shutil.copyfile(clone / "config/tiny.tsv", clone / "config" / sheet)
