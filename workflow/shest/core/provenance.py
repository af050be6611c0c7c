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

ROOT = Path(shest.__file__).resolve().parent.parent
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


def code_digest(*files: Path) -> str:
    """Return a digest of all modules of the library that some files import, directly or not, and within functions.

    A rule that carries it as a parameter runs again when one of them changes, and only then. A file of the library
    itself counts too; a script outside it does not: Snakemake looks at that itself.
    """
    text = hashlib.sha256()
    for path in sorted(closure(*files)):
        text.update(_name(path).encode() + b"\0" + path.read_bytes())
    return text.hexdigest()[:16]


def closure(*files: Path) -> set[Path]:
    """Return the modules of the library that some files import, directly or not; those among the files too."""
    seen: set[Path] = {path for path in files if path.is_relative_to(ROOT / "shest")}
    waiting = list(files)
    while waiting:
        new = set(_imports(waiting.pop())) - seen
        seen |= new
        waiting += new
    return seen


def module_file(name: str) -> Path:
    """Return the file of a module, of this library or another that is installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {name}")
    return Path(spec.origin).resolve()


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


@cache  # each job reads the rules anew, and they ask for the same modules many times
def _imports(path: Path) -> frozenset[Path]:
    """Return the library's files that a file imports; of a package's module, the package's own file too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == "shest"]
    files = (_file(".".join(part[:end])) for part in parts for end in range(1, len(part) + 1))
    return frozenset(file for file in files if file is not None)
