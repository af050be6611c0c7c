"""Every rule in its own environment: all are created, hold all that the rules need, and give the same results."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow
R = "results/tiny"

# Snakemake puts its own packages behind an environment's, where they would stand in for what the environment lacks.
# Written into an environment, this hides them, all but snakemake itself.
APART = """
import sys
from importlib.machinery import PathFinder


class Apart(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = PathFinder.find_spec(name, path, target)
        # A package that lies in several places (a namespace) is foreign where none of them is the environment's.
        places = ([found.origin] if found.origin else list(found.submodule_search_locations or [])) if found else []
        foreign = places and all("site-packages" in p and not p.startswith(sys.prefix) for p in places)
        return None if foreign and not name.startswith("snakemake") else found


sys.meta_path[sys.meta_path.index(PathFinder)] = Apart
"""


@pytest.fixture(scope="module")
def conda(root, tmp_path_factory) -> dict[str, str]:
    """Variables that put a conda in front: the one that is there, or a stand-in that installs the same pins."""
    if shutil.which("conda"):
        return {}
    kit = Path(os.environ.get("SHEST_CLUSTER") or root.parent / "shared" / "cluster")
    setup = kit / "conda-standin" / "setup"
    if not setup.is_file():
        pytest.skip("needs conda, or its stand-in in SHEST_CLUSTER")
    done = subprocess.run([str(setup), str(tmp_path_factory.mktemp("conda"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    given = dict(word.split("=", 1) for word in done.stdout.split()[1:])
    return given | {"PATH": given["PATH"].replace("$PATH", os.environ["PATH"])}


@pytest.fixture(scope="module")
def environments(snake, conda, root, tmp_path_factory):
    """Folder with all environments of the project, as snakemake creates them; some 17 GB, removed at the end."""
    folder = tmp_path_factory.mktemp("environments")
    arguments = ["--sdm", "conda", "--conda-prefix", str(folder / "envs")]
    try:
        snake(folder, *arguments, "--conda-create-envs-only", **conda)
        yield folder
    finally:
        shutil.rmtree(folder / "envs", ignore_errors=True)


def named(folder: Path, root: Path) -> dict[str, Path]:
    """Prefix of each created environment by the name of its file."""
    files = {path.read_text(): path.stem for path in (root / "envs").glob("*.yaml")}
    return {files[path.read_text()]: path.with_suffix("") for path in (folder / "envs").glob("*.yaml")}


def size_gb(folder: Path) -> float:
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names) / 1e9


def test_each_environment_is_created_and_small(environments, root, capsys):
    found = named(environments, root)
    assert set(found) == {path.stem for path in (root / "envs").glob("*.yaml")}
    sizes = {name: size_gb(prefix) for name, prefix in found.items()}
    with capsys.disabled():
        print("\n" + "".join(f"envs/{name}.yaml {size:.1f} GB\n" for name, size in sorted(sizes.items())), end="")
    assert sizes["report"] < 0.7
    assert all(sizes[name] < 2.5 for name in ("ingest", "annotate", "image"))
    for name, prefix in found.items():
        held = {path.name.split("-")[0].lower() for path in prefix.glob("lib/python3.*/site-packages/*.dist-info")}
        spec = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
        assert held, name
        assert {"snakemake", "pytest"}.isdisjoint(held), name
        assert len(held) >= len(spec["dependencies"][-1]["pip"]), name


def test_the_whole_run_inside_them_gives_the_same_results(environments, snake, conda, root, tiny):
    for prefix in named(environments, root).values():
        site = next(prefix.glob("lib/python3.*/site-packages"))
        (site / "sitecustomize.py").write_text(APART)
    done = snake(environments, "--sdm", "conda", "--conda-prefix", str(environments / "envs"), **conda)
    assert "Activating conda environment" in done.stdout
    assert (environments / R / "report.html").is_file()
    names = [
        path.relative_to(tiny)
        for path in sorted((tiny / R).rglob("*"))
        if path.suffix in (".parquet", ".safetensors", ".npy", ".csv", ".h5ad") and ".costs." not in str(path)
    ]
    assert len(names) > 20
    different = [str(name) for name in names if (environments / name).read_bytes() != (tiny / name).read_bytes()]
    assert different == []


@pytest.mark.parametrize("kind", ["dockerfile", "apptainer"])
def test_a_container_of_all_environments_can_be_written(conda, root, kind):
    command = ["snakemake", "--containerize", kind, "--configfile", "config/tiny.yaml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ | conda)
    assert done.returncode == 0, done.stderr[-3000:]
    for path in (root / "envs").glob("*.yaml"):
        assert f"envs/{path.name} " in done.stdout, path.name
    assert done.stdout.count("conda env create") == len(list((root / "envs").glob("*.yaml")))
