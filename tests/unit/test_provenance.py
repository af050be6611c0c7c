"""What a rule's digest of code covers: the modules that its script really imports, and no others."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from shest.core import provenance
from shest.systems import base

NOT_DIGESTED = {"embed", "embed_views", "index_embeddings", "fetch", "fetch_weights", "resolve_encoder"}
"""Scripts without a digest: what is encoded is named by its fingerprint, what is fetched by its address."""

CHANGE = """
import json
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root))
from shest.core.provenance import code_digest

scripts = {script.stem: script.resolve() for script in sorted((root / "scripts").glob("*.py"))}
digests = lambda: {name: code_digest(script) for name, script in scripts.items()}
before, changed = digests(), {}
for path in sorted((root / "shest").rglob("*.py")):
    text = path.read_text()
    path.write_text(text + "# changed\\n")
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    changed[name] = [name for name, digest in digests().items() if digest != before[name]]
    path.write_text(text)
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("shest")


def reached(graph, file: Path) -> set[str]:
    """Modules that a script imports by an independent reading of the import graph, packages of each included."""
    found = set()
    for module in graph.modules:
        if any(f"{word} {module}" in text for text in file.read_text().split("\n") for word in ("from", "import")):
            found |= {module}
    for line in file.read_text().split("\n"):
        words = line.strip().replace(",", " ").split()
        if words[:1] == ["from"] and words[1].startswith("shest"):
            found |= {f"{words[1]}.{name}" for name in words[3:] if f"{words[1]}.{name}" in graph.modules}
    everything = set(found)
    for module in found:
        everything |= graph.find_upstream_modules(module)
    parents = {".".join(name.split(".")[:end]) for name in everything for end in range(1, name.count(".") + 1)}
    return everything | parents | {m for parent in parents for m in graph.find_upstream_modules(parent)}


def test_the_closure_is_what_the_import_graph_says(root, graph):
    scripts = sorted((root / "workflow/scripts").glob("*.py"))
    assert len(scripts) > 25
    for script in scripts:
        assert set(provenance.closure(script)) == reached(graph, script), script.name


def test_a_changed_module_changes_the_digests_of_those_that_import_it_and_of_no_others(root, graph, tmp_path):
    copy = tmp_path / "workflow"
    shutil.copytree(root / "workflow", copy, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", CHANGE, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    changed = {module: set(scripts) for module, scripts in json.loads(done.stdout).items()}
    assert set(changed) == set(graph.modules)
    importers = {s.stem: reached(graph, s) for s in (root / "workflow/scripts").glob("*.py")}
    for module, scripts in changed.items():
        assert scripts == {s for s, modules in importers.items() if module in modules}, module
    assert changed["shest.core.errors"] > changed["shest.labels.split"] >= {"split", "predict"}


def test_every_rule_that_computes_carries_the_digest_of_its_own_script(root, rules):
    for rule in rules:
        script = Path(rule.script).stem if rule.script else None
        if script is None or script in NOT_DIGESTED:
            assert "code" not in rule.params.keys(), rule.name  # noqa: SIM118 (Snakemake's named list)
            continue
        assert "code" in rule.params.keys(), f"{rule.name} would not run again when the library changes"  # noqa: SIM118
        if not callable(rule.params.code):
            assert rule.params.code == provenance.code_digest(root / f"workflow/scripts/{script}.py"), rule.name


def test_the_code_of_a_system_is_part_of_its_rules(root):
    fit = root / "workflow/scripts/fit.py"
    modules = {kind: spec.module for kind, spec in base.kinds().items()}
    digests = {kind: provenance.code_digest(fit, module) for kind, module in modules.items()}
    assert len(set(digests.values())) == len(digests)
    assert not set(modules.values()) & set(provenance.closure(fit))
    inside = set(provenance.closure(fit, modules["shest"]))
    assert {"shest.systems.shest.training", "shest.systems.zinb"} <= inside
    assert not any(name.startswith("shest.systems.linear") for name in inside)


def test_the_code_of_a_system_of_another_package_counts_with_all_that_it_imports(root, tmp_path, monkeypatch):
    package = tmp_path / "elsewhere"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "system.py").write_text("from . import layers\nfrom shest.systems.base import System\n")
    (package / "layers.py").write_text("from .parts.inner import depth\n")
    (package / "parts/__init__.py").write_text("")
    (package / "parts/inner.py").write_text("import numpy\n\ndepth = 3\n")
    (package / "unused.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    fit = root / "workflow/scripts/fit.py"
    reached = {name for name in provenance.closure(fit, "elsewhere.system") if name.startswith("elsewhere")}
    assert reached == {"elsewhere", *(f"elsewhere.{n}" for n in ("system", "layers", "parts", "parts.inner"))}
    before = provenance.code_digest(fit, "elsewhere.system")
    (package / "unused.py").write_text("changed = True\n")
    assert provenance.code_digest(fit, "elsewhere.system") == before
    (package / "parts/inner.py").write_text("import numpy\n\ndepth = 4\n")
    assert provenance.code_digest(fit, "elsewhere.system") != before
    with pytest.raises(ModuleNotFoundError, match=r"elsewhere\.missing"):
        provenance.closure(fit, "elsewhere.missing")


def test_the_linter_knows_every_system(root):
    import tomllib

    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    listed = next(c["modules"] for c in contracts if c["type"] == "independence")
    own = [f"shest.systems.{p.parent.name}" for p in (root / "workflow/shest/systems").glob("*/__init__.py")]
    assert sorted(listed) == sorted(own)
