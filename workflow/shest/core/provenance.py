"""What a result was made with: versions, and digests of the code behind a rule."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import shest

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "torch",
    "timm",
    "anndata",
    "spatialdata",
    "tacco",
    "umap-learn",
)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of this project, of Python and of those ``packages`` that are installed."""
    found = {"shest": shest.__version__, "python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_digest(script: Path, *modules: str) -> str:
    """Return a digest of all modules that a script imports, directly or not, and within functions.

    A rule that carries it as a parameter runs again when one of them changes, and only then. ``modules`` are imported
    by what the config names and count too, of whatever package; the script does not: Snakemake looks at that itself.
    """
    text = hashlib.sha256()
    for name, path in sorted(closure(script, *modules).items()):
        text.update(name.encode() + b"\0" + path.read_bytes())
    return text.hexdigest()[:16]


def closure(script: Path, *modules: str) -> dict[str, Path]:
    """Return name and file of every module of this library that a script or some ``modules`` import in the end.

    The modules count themselves, and so do others of their packages. Raises ModuleNotFoundError for one that is not
    installed.
    """
    packages = tuple(dict.fromkeys(("shest", *(module.split(".")[0] for module in modules))))
    seen: dict[str, Path] = {}
    waiting = {**dict.fromkeys(_imports(script, "", packages)), **dict.fromkeys(modules)}
    while waiting:
        name = waiting.popitem()[0]
        seen[name] = module_file(name)
        waiting |= dict.fromkeys(_imports(seen[name], name, packages) - set(seen))
    return seen


def module_file(name: str) -> Path:
    """Return the file of a module, of this library or another that is installed."""
    path = _file(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name}")
    return path


@cache
def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {package}")
    file = Path(spec.origin).resolve()
    return file.parent.parent if file.name == "__init__.py" else file.parent


def _file(module: str) -> Path | None:
    """Return a module's file by its name alone: looking it up by Python's own means would run its package."""
    path = _root(module.split(".")[0]).joinpath(*module.split("."))
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in found if file.is_file()), None)


@cache  # each job reads the rules anew, and they ask for the same modules many times
def _imports(path: Path, name: str, packages: tuple[str, ...]) -> frozenset[str]:
    """Return the modules of some packages that a file imports; of a package's module, the package itself too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            module = importlib.util.resolve_name(dots, package) if node.level else dots
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] in packages]
    found = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    return frozenset(module for module in found if _file(module))
