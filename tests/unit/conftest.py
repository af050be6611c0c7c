"""Fixtures of the unit tests."""

import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    """Other tests' parallel loops leave torch with as many threads as they took: on shared cores that is slow."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
