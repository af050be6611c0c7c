"""Shared by all tests: where the real bundles are, what a test skips for lack of, one whole run of config/tiny.yaml."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
LONGEST = ("test_kit.py", "test_slurm.py", "test_conda.py", "test_slide.py", "test_nuclei.py", "test_apply.py")


def kit_folder() -> Path:
    return Path(os.environ.get("SHEST_KIT") or ROOT.parent / "shared" / "data" / "kit")


def pytest_collection_modifyitems(items):
    """Put the files that take longest first, so that no worker starts one when the others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_runtest_setup(item):
    if item.get_closest_marker("kit") and not (kit_folder() / "colon_train").is_dir():
        pytest.skip("needs the bundles of SHEST_KIT, which are not there")
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU, and none is visible")
    if item.get_closest_marker("root") and (os.geteuid() != 0 or not shutil.which("apt-get")):
        pytest.skip("needs root on Debian to install system packages")


@pytest.fixture(scope="session")
def kit() -> Path:
    return kit_folder()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def call(folder: Path, root: Path, *arguments: str, config: str | Path = "tiny", check: bool = True, **variables: str):
    """Run snakemake on the project from a folder of its own; return the finished process, output as text."""
    config_file = config if isinstance(config, Path) else root / "config" / f"{config}.yaml"
    command = [
        "snakemake",
        "--snakefile",
        str(root / "Snakefile"),
        "--directory",
        str(folder),
        "--cores",
        "2",
        "--rerun-incomplete",
        "--configfile",
        str(config_file),
        *arguments,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, **pipes, text=True, env=os.environ | variables)
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done


@pytest.fixture(scope="session")
def snake(root):
    """Call snakemake in a folder: snake(folder, *arguments, config="tiny", check=True)."""
    return lambda folder, *arguments, **options: call(folder, root, *arguments, **options)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, root) -> Path:
    """A folder with a finished run of config/tiny.yaml, one for all workers; tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, finished = shared / "tiny", shared / "tiny.finished"
    with FileLock(shared / "tiny.lock"):
        if not finished.exists():
            folder.mkdir(exist_ok=True)
            call(folder, root)
            finished.touch()
    return folder


@pytest.fixture
def copy_of_tiny(tiny, tmp_path) -> Path:
    """The finished run, to be changed; times are kept, so that nothing is outdated."""
    folder = tmp_path / "run"
    shutil.copytree(tiny, folder, symlinks=True)
    return folder


@pytest.fixture
def changed(root, tmp_path):
    """Write config/tiny.yaml with some sections changed: changed(train={"members": 3}); return its path."""

    def write(**sections):
        config = yaml.safe_load((root / "config/tiny.yaml").read_text())
        for name, value in sections.items():
            config[name] = config.get(name, {}) | value if isinstance(value, dict) else value
        config["samples"] = str(root / "config" / config["samples"])
        path = tmp_path / f"changed{len(list(tmp_path.glob('changed*.yaml')))}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    return write


def read_rules(root: Path, config: Path, folder: Path) -> list:
    """The rules as Snakemake knows them once a config is read."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, ResourceSettings

    before, variables = Path.cwd(), dict(os.environ)
    try:
        with SnakemakeApi() as api:
            read = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=[config]),
                snakefile=root / "Snakefile",
                workdir=folder,
            )
            return list(read._workflow.rules)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)


@pytest.fixture(scope="session")
def rules(root, tmp_path_factory):
    """Every rule: those of config/tiny.yaml, and those that only a run with a package has."""
    from support import package

    folder = tmp_path_factory.mktemp("rules")
    (folder / "slide.tif").touch()
    (folder / "apply.tsv").write_text("sample\trole\tplatform\tpath\ns\tpredict\tslide\tslide.tif\n")
    (folder / "cohort.tsv").write_text("sample\tpatient\tresponse\ns\tp\t1\n")
    sections = f"model: {package.write(folder)}\ncohort: {{table: cohort.tsv}}\n"
    (folder / "apply.yaml").write_text(f"samples: apply.tsv\n{sections}")
    tiny = yaml.safe_load((root / "config/tiny.yaml").read_text())
    tiny["samples"] = str(root / "config" / tiny["samples"])
    tiny["explain"] = {"sample": "sim_lung", "genes": ["EPCAM"]}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    trained = read_rules(root, folder / "tiny.yaml", folder)
    known = {rule.name for rule in trained}
    return trained + [rule for rule in read_rules(root, folder / "apply.yaml", folder) if rule.name not in known]
