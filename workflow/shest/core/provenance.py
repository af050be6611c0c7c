"""What a result was made with: versions, and digests of the code behind a rule."""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import shest

FOLDER = Path(shest.__file__).resolve().parent
QUIET = {"console.py", "errors.py", "provenance.py"}  # they change what is said, not what is computed
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


def module_digest(*names: str) -> str:
    """Return a digest of library modules and of all the library's modules that they import.

    A rule that carries it as a parameter runs again when one of them changes, and only then.
    """
    seen: set[Path] = set()
    waiting = [_file(name) for name in names]
    while waiting:
        path = waiting.pop()
        if path not in seen and path.name not in QUIET:
            seen.add(path)
            waiting += _imports(path)
    text = hashlib.sha256()
    for path in sorted(seen):
        text.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes())
    return text.hexdigest()[:16]


def _file(name: str) -> Path:
    path = FOLDER.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache  # each job reads the rules anew, and they ask for the same modules many times
def _imports(path: Path) -> tuple[Path, ...]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "shest":
            stem = ".".join(node.module.split(".")[1:])
            names = [stem] if stem else []
            names += [f"{stem}.{alias.name}".lstrip(".") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("shest.") for a in node.names if a.name.startswith("shest.")]
        found += [file for file in map(_file, names) if file.is_file()]
    return tuple(found)
