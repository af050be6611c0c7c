"""What is written for people agrees with what the machine checks."""

import re
import runpy
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from shest.draw.figure_list import FIGURES, TABLES


def test_the_config_page_is_written_from_the_schema(root):
    page = runpy.run_path(str(root / "config/describe.py"))["page"]()
    assert (root / "config/README.md").read_text() == page, "run: make docs"


def test_the_page_of_messages_is_written_from_the_code(root):
    page = runpy.run_path(str(root / "docs/describe.py"))["page"]()
    assert (root / "docs/troubleshooting.md").read_text() == page, "run: make docs"


def test_the_ledger_is_written_from_its_table_and_says_of_each_number_what_was_run(root):
    code = runpy.run_path(str(root / "docs/describe.py"))
    assert (root / "docs/ledger.md").read_text() == code["ledger"](), "run: make docs"
    table = pd.read_csv(root / "resources/ledger.tsv", sep="\t", keep_default_na=False)
    assert table["paper"].nunique() == 5
    assert (table != "").all(axis=None), "each cell says something"
    measured = table[~table["here"].str.startswith("not run here")]
    assert (measured["command"] != "-").all(), "what was measured has a command that shows it"
    targets = set(re.findall(r"(?:^|; )make ([a-z-]+)", "; ".join(table["command"])))
    assert targets <= set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.M))


def test_the_page_of_messages_has_what_is_raised_and_noted(root, tmp_path):
    code = runpy.run_path(str(root / "docs/describe.py"))
    (tmp_path / "m.py").write_text(
        "def f(path, n, found):\n"
        "    why = 'cut off' if n else 'empty'\n"
        "    found.warn(path, f'{n} rows', 'Look at them')\n"
        "    raise InputError(path, f'is {why} at {n + 1}', f'Copy {path} again')\n"
    )
    said = set(code["messages"](tmp_path / "m.py", {}))
    assert said == {("Warnings", "… rows", "Look at them"), ("Errors", "is … at …", "Copy … again")}


def test_every_make_target_in_the_readme_is_there(root):
    text = (root / "README.md").read_text() + (root / "config/README.md").read_text()
    targets = sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.M)))
    assert targets
    for target in targets:
        known = subprocess.run(["make", "--dry-run", target], cwd=root, capture_output=True, text=True)
        assert known.returncode == 0, f"{target}: {known.stderr}"


def test_every_link_of_the_readme_leads_somewhere(root):
    for target in re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text()):
        assert target.startswith("http") or (root / target).exists(), target


def test_the_page_of_figures_has_every_figure_and_table(root):
    listed = re.findall(
        r"^\| ((?:table )?(?:[HP]|S?\d)[\w, ]*|stimage) \|", (root / "docs/figures.md").read_text(), flags=re.M
    )
    assert sorted(", ".join(listed).split(", ")) == sorted([*FIGURES, *(f"table {number}" for number in TABLES)])


def test_environments_pin_what_the_lock_pins(root):
    lock = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (root / "requirements.txt").read_text(), flags=re.M))
    for path in sorted((root / "envs").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())
        names = [d.split()[0] for d in spec["dependencies"] if isinstance(d, str)]
        assert names == ["python", "pip"], path.name
        for pin in next(d["pip"] for d in spec["dependencies"] if isinstance(d, dict)):
            name, version = pin.split("==")
            assert lock[name] == version, f"{path.name}: {pin}"


def test_every_rule_that_runs_something_has_all_directives(root, rules):
    running = [rule for rule in rules if rule.script]
    assert len(running) > 25
    for rule in running:
        for name, value in (
            ("output", rule.output),
            ("log", rule.log),
            ("benchmark", rule.benchmark),
            ("conda", rule.conda_env),
            ("message", rule.message),
        ):
            assert value, f"{rule.name}: no {name}"
        assert {"mem_mb", "runtime"} <= set(rule.resources), rule.name
    used = {Path(rule.conda_env).stem for rule in running}
    assert used == {p.stem for p in (root / "envs").glob("*.yaml")}


def test_nothing_of_this_machine_is_in_the_project(root):
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True).stdout.split()
    for name in files:
        path = root / name
        if path.suffix in (".py", ".smk", ".md", ".yaml", ".tsv", ".toml") or name in ("Makefile", "Snakefile"):
            assert not re.search(r"(?<![\w.])/(?:home|work|root)/\w", path.read_text()), name


def documented_encoders(root):
    blocks = re.findall(r"```yaml\n(encoders:.*?)```", (root / "config/README.md").read_text(), flags=re.S)
    return [entry for block in blocks for entry in yaml.safe_load(block)["encoders"] if "architecture" in entry]


@pytest.mark.parametrize("name", ["uni2-h", "virchow2", "prov-gigapath", "phikon-v2"])
def test_documented_encoders_are_entries_that_timm_can_build(root, name):
    import torch

    from shest.core.errors import Findings
    from shest.encode import spec, timm_encoder
    from shest.run import config

    entry = next(e for e in documented_encoders(root) if e["name"] == name)
    minimal = {
        "samples": "s",
        "reference": {"path": "r"},
        "encoders": [entry],
        "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b"]}},
    }
    findings = Findings()
    filled = config.check_config(minimal, "c", findings)
    assert findings.problems == []
    with torch.device("meta"):
        model = timm_encoder.build(spec.spec_of(filled["encoders"][0]), None)
    assert model.num_features == entry["features"]


def test_the_passes_in_the_readme_are_those_that_the_plan_counts(root):
    from shest.labels.orientations import count_passes

    text = (root / "README.md").read_text()
    for passes in count_passes(cells=141_950, train=113_560, test=28_390, drawn=75_324).values():
        assert f"| {passes:,} |" in text
