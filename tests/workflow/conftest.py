"""Whole runs on tiny input: one complete run a session, which the tests look at and copy."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def call(folder: Path, root: Path, *arguments: str, config: str = "tiny", check: bool = True, **variables: str):
    """Run snakemake on the project from a folder of its own; return the finished process, output as text."""
    command = ["snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder), "--cores", "2",
               "--rerun-incomplete", "--configfile", str(root / "config" / f"{config}.yaml"), *arguments]  # fmt: skip
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
    """A folder with a finished run of config/tiny.yaml; tests must not change it."""
    folder = tmp_path_factory.mktemp("tiny")
    call(folder, root)
    return folder


@pytest.fixture
def copy_of_tiny(tiny, tmp_path) -> Path:
    """The finished run, to be changed; times are kept, so that nothing is outdated."""
    folder = tmp_path / "run"
    shutil.copytree(tiny, folder, symlinks=True)
    return folder
