"""Writes the environments of this folder: what each family of rules needs, pinned as requirements.txt pins it.

Run by `make lock`. Python and pip come from conda-forge, everything else from PyPI, so that an environment and
the project's own .venv hold the same builds.
"""

import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements.txt"
PYTHON, PIP = "3.11", "25.3"
COMMON = ["numpy", "pandas", "pyarrow"]
FAMILIES = {
    "ingest": [
        "spatialdata",
        "spatialdata-io",
        "dask",
        "zarr",
        "tifffile",
        "imagecodecs",
        "geopandas",
        "anndata",
        "scikit-image",
        "scipy",
        "h5py",
        "jsonschema",
        "openslide-python",
        "openslide-bin",
    ],
    "annotate": ["tacco", "anndata", "zarr", "scanpy", "igraph", "scikit-learn"],
    "image": [
        "zarr",
        "dask",
        "geopandas",
        "shapely",
        "numba",
        "safetensors",
        "scikit-image",
        "matplotlib",
        "anndata",
        "h5py",
        "tifffile",
        "imagecodecs",
        "scipy",
        "tiffslide",
        "openslide-python",
        "openslide-bin",
    ],
    "torch": [
        "torch",
        "lime",
        "torchvision",
        "timm",
        "safetensors",
        "huggingface_hub",
        "numba",
        "scikit-learn",
        "anndata",
        "zarr",
        "h5py",
        "scikit-image",
        "scipy",
        "geopandas",
        "shapely",
        "matplotlib",
        "dask",
        "tifffile",
        "imagecodecs",
        "openslide-python",
        "openslide-bin",
    ],
    "analysis": [
        "anndata",
        "zarr",
        "scanpy",
        "squidpy",
        "umap-learn",
        "pynndescent",
        "scikit-learn",
        "scipy",
        "safetensors",
        "matplotlib",
        "seaborn",
        "h5py",
        "shapely",
        "geopandas",
        "torch",
        "numba",
        "lifelines",
    ],
    "report": ["jinja2", "matplotlib", "pillow", "pyyaml"],
}


def closure(packages: list[str]) -> list[str]:
    """Return exact pins of the packages and of all that they need, at the versions of the lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write("\n".join(packages))
        wanted.flush()
        command = [
            "uv",
            "pip",
            "compile",
            "--system-certs",
            "--quiet",
            "--no-header",
            "--no-annotate",
            "--python-version",
            PYTHON,
            "--constraint",
            str(LOCK),
            wanted.name,
        ]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.strip() for line in found.splitlines() if re.match(r"[\w.-]+==", line)]


def main() -> None:
    for name, packages in FAMILIES.items():
        lines = [
            "# Written by envs/lock.py; do not edit.",
            "channels:",
            "  - conda-forge",
            "  - nodefaults",
            "dependencies:",
            f"  - python ={PYTHON}",
            f"  - pip ={PIP}",
            "  - pip:",
        ]
        lines += [f"      - {pin}" for pin in closure(sorted({*COMMON, *packages}))]
        (HERE / f"{name}.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
