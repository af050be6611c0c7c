"""What is written for people agrees with what the machine checks."""

import ast
import re
import runpy
import subprocess

import pytest
import yaml


def test_the_config_page_is_written_from_the_schema(root):
    page = runpy.run_path(str(root / "config/describe.py"))["page"]()
    assert (root / "config/README.md").read_text() == page, "run: make docs"


def test_every_make_target_in_the_readme_is_there(root):
    text = (root / "README.md").read_text() + (root / "config/README.md").read_text()
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.M))
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_every_link_of_the_readme_leads_somewhere(root):
    for target in re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text()):
        assert target.startswith("http") or (root / target).exists(), target


def test_the_page_of_figures_has_every_figure_and_table(root):
    code = (root / "workflow/rules/common.smk").read_text()
    lists = (re.search(rf"^{name} = (\[.*?\])", code, flags=re.M)[1] for name in ("FIGURES", "TABLES"))
    figures, tables = map(ast.literal_eval, lists)
    listed = re.findall(r"^\| ((?:table )?S?\d[\w, ]*) \|", (root / "docs/figures.md").read_text(), flags=re.M)
    assert sorted(", ".join(listed).split(", ")) == sorted([*figures, *(f"table {number}" for number in tables)])


def test_environments_pin_what_the_lock_pins(root):
    lock = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (root / "requirements.txt").read_text(), flags=re.M))
    for path in sorted((root / "envs").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())
        names = [d.split()[0] for d in spec["dependencies"] if isinstance(d, str)]
        assert names == ["python", "pip"], path.name
        for pin in next(d["pip"] for d in spec["dependencies"] if isinstance(d, dict)):
            name, version = pin.split("==")
            assert lock[name] == version, f"{path.name}: {pin}"


def test_every_rule_that_runs_something_has_all_directives(root):
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for body in re.split(r"^ *rule[ :]", path.read_text(), flags=re.M)[1:]:
            if "script:" not in body:
                continue
            for directive in ("output", "log", "benchmark", "conda", "threads", "resources", "message"):
                assert f"{directive}:" in body, f"{path.name}: {directive} is missing in {body.split()[0]}"
    used = set(re.findall(r'env\("(\w+)"\)', "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))))
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


def texts(node, known):
    """What a string, an f-string, a choice of two or a local name can say; … for what varies."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        parts = [
            texts(part.value, known)
            if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
            else [part.value]
            if isinstance(part, ast.Constant)
            else []
            for part in node.values
        ]
        return ["".join(part[0] if len(part) == 1 else "…" for part in parts)]
    if isinstance(node, ast.IfExp):
        return texts(node.body, known) + texts(node.orelse, known)
    return known.get(node.id, []) if isinstance(node, ast.Name) else []


def functions(path):
    """Each function of a module, with what its local names are set to."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            known = {}
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known.setdefault(node.targets[0].id, []).extend(texts(node.value, {}))
            yield function, known


def said_by_errors(path):
    """Problems and warnings that a module can raise or note."""
    for function, known in functions(path):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and len(node.args) == 3:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None)
                yield from texts(node.args[1], known) if name in ("InputError", "problem", "warn") else ()


def said_by_lists(path):
    """First sentences of the problems that a module lists, without the file in front."""
    for node in ast.walk(ast.parse(path.read_text())):
        added = isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "append"
        said = node.args[0] if added else node if isinstance(node, ast.JoinedStr) else None
        for text in texts(said, {}):
            sentence = re.sub(r"^(…: )+", "", text).split(". ")[0].rstrip(".")
            if ". " in text or text.endswith("."):
                yield sentence


def test_troubleshooting_has_every_message_and_no_other(root):
    library = root / "workflow/shest"
    listed = [library / f"{name}.py" for name in ("places", "config")]
    said = {text for path in library.glob("*.py") for text in said_by_errors(path)}
    said |= {text for path in listed for text in said_by_lists(path)}
    said = {re.sub("…+", "…", text) for text in said} - {"…", "… …"}
    page = (root / "docs/troubleshooting.md").read_text()
    known = set(re.findall(r"^\| `([^`]+)` \|", page.partition("## Not a message")[0], flags=re.M))
    assert said - known == set(), "messages that docs/troubleshooting.md lacks"
    assert known - said == set(), "messages of docs/troubleshooting.md that nothing says"
