"""Each rule's environment holds what its script imports, small, and pinned as the project's lock pins it."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

# Imported within functions that the rules of this environment never call.
NEVER_CALLED = {
    # tiles are assembled on a GPU by the encoder's rules; where a system finds nuclei, segment runs in envs/torch
    "image": {"torch", "scikit-learn"},
    "ingest": {"torch", "timm", "huggingface-hub", "safetensors", "tacco"}  # weights and reference: only looked at
    | {"scanpy", "scikit-learn"},  # so are marker genes: clusters are of the annotation
}


def pins(root: Path, name: str) -> dict[str, str]:
    """Packages of an environment with their versions."""
    spec = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
    return dict(pin.split("==") for d in spec["dependencies"] if isinstance(d, dict) for pin in d["pip"])


def names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "envs").glob("*.yaml"))


@cache
def imports(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Modules that a file imports when it is loaded, and those that its functions import when they are called."""
    found: dict[bool, set[str]] = {True: set(), False: set()}

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found[inside].update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found[inside].update({child.module, *(f"{child.module}.{alias.name}" for alias in child.names)})
            visit(child, inside or isinstance(child, ast.FunctionDef | ast.Lambda))

    visit(ast.parse(path.read_text()), False)
    return frozenset(found[False]), frozenset(found[True])


def file_of(root: Path, module: str) -> Path | None:
    """The library's file of a module, if it is one of the library's."""
    stem = root / "workflow" / module.replace(".", "/")
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def reach(root: Path, script: Path, functions: bool) -> set[str]:
    """Distributions that a script needs to start, or also those that some function in its reach imports."""
    known = packages_distributions()
    found: set[str] = set()
    seen, waiting = {script}, [script]
    while waiting:
        at_once, in_functions = imports(waiting.pop())
        for module in at_once | (in_functions if functions else frozenset()):
            top, path = module.split(".")[0], file_of(root, module)
            if path and path not in seen:
                seen.add(path)
                waiting.append(path)
            elif top != "shest" and top not in sys.stdlib_module_names:
                found.add(known.get(top, [top])[0].lower().replace("_", "-"))
    return found


def test_every_script_finds_what_it_imports_in_its_environment(root, rules):
    used = {
        (Path(rule.conda_env).stem, path.name)
        for rule in rules
        if rule.script
        for path in (root / "workflow/scripts").glob(re.sub(r"\{.*\}", "*", Path(rule.script).name))
    }
    assert len(used) > 20
    assert {path.name for path in (root / "workflow/scripts").glob("*.py")} == {script for _, script in used}
    for name, script in sorted(used):
        held = set(pins(root, name))
        start, later = (reach(root, root / "workflow/scripts" / script, functions) for functions in (False, True))
        assert start <= held, f"{script} does not start in envs/{name}.yaml: {sorted(start - held)} are not in it"
        missing = later - held - NEVER_CALLED.get(name, set())
        assert not missing, f"{script} may want {sorted(missing)}, which envs/{name}.yaml lacks"


def test_environments_are_small(root):
    held = {name: set(pins(root, name)) for name in names(root)}
    for name in ("ingest", "annotate", "image", "report"):
        assert "torch" not in held[name], name
    assert not {"spatialdata", "squidpy", "tacco"} & held["torch"]
    assert not {"snakemake", "pytest", "ruff"} & set().union(*held.values())


@pytest.mark.parametrize("name", names(Path(__file__).resolve().parents[2]))
def test_an_environment_is_python_and_pip_of_conda_forge_and_pins_of_the_lock(root, name):
    spec = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
    lock = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (root / "requirements.txt").read_text(), flags=re.M))
    assert spec["channels"] == ["conda-forge", "nodefaults"]
    assert [d.split()[0] for d in spec["dependencies"] if isinstance(d, str)] == ["python", "pip"]
    for package, version in pins(root, name).items():
        assert lock[package] == version, package
