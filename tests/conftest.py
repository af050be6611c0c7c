"""Shared by all tests: where the real bundles are, and what a test skips for lack of."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def kit_folder() -> Path:
    return Path(os.environ.get("SHEST_KIT") or ROOT.parent / "shared" / "data" / "kit")


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
