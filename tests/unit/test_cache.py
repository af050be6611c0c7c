"""The embedding cache: parts, what is missing, and reading by cell and view."""

import numpy as np
import pytest

from shest.core import files
from shest.core.errors import InputError
from shest.encode import cache

SHARD = "ab" * 32


def index(tmp_path, parts, cells, sample="s", fingerprint="f" * 64, dim=3):
    path = tmp_path / f"{sample}.json"
    shards = [{"file": "x", "sha256": SHARD, "cells": cells, "parts": parts}]
    files.write_json(
        path,
        {
            "sample": sample,
            "fingerprint": fingerprint,
            "dim": dim,
            "orientation_invariant": False,
            "cache": str(tmp_path),
            "shards": shards,
        },
    )
    return path


def put(tmp_path, values, view=0, rows=None):
    part = cache.part_path(tmp_path, "f" * 64, SHARD, view, rows)
    cache.write_part(part, values, rows)
    return {"view": view, "file": str(part.relative_to(tmp_path))}


def test_embeddings_come_back_by_cell_and_view_in_any_order(tmp_path):
    base = np.arange(12, dtype=np.float16).reshape(4, 3)
    rows = np.array([1, 3])
    parts = [put(tmp_path, base), put(tmp_path, base[rows] + 100, view=5, rows=rows)]
    cells = [("s", c) for c in "dbca"]
    table = cache.Embeddings([index(tmp_path, parts, list("abcd"))], cells)
    assert np.array_equal(table.take([0, 1, 2, 3]), base[[3, 1, 2, 0]])
    assert np.array_equal(table.take([1, 0, 2], [5, 5, 0]), np.stack([base[1] + 100, base[3] + 100, base[2]]))
    with pytest.raises(KeyError, match="1 of these"):
        table.take([2], [5])


def test_only_rows_without_a_part_are_missing(tmp_path):
    assert cache.missing_rows(tmp_path, "f" * 64, SHARD, 2, np.arange(4)).tolist() == [0, 1, 2, 3]
    put(tmp_path, np.zeros((2, 3)), view=2, rows=np.array([0, 2]))
    assert cache.missing_rows(tmp_path, "f" * 64, SHARD, 2, np.arange(4)).tolist() == [1, 3]
    put(tmp_path, np.zeros((2, 3)), view=2, rows=np.array([1, 3]))
    assert cache.missing_rows(tmp_path, "f" * 64, SHARD, 2, np.arange(4)).tolist() == []
    assert len(cache.parts_for(tmp_path, "f" * 64, SHARD, 2, np.arange(4))) == 2
    assert len(cache.parts_for(tmp_path, "f" * 64, SHARD, 2, np.array([3]))) == 1


def test_a_part_without_its_rows_is_not_taken_for_whole(tmp_path):
    rows = np.array([0, 2])
    put(tmp_path, np.zeros((2, 3)), view=2, rows=rows)
    cache.rows_path(cache.part_path(tmp_path, "f" * 64, SHARD, 2, rows)).unlink()
    assert cache.missing_rows(tmp_path, "f" * 64, SHARD, 2, rows).tolist() == [0, 2]
    with pytest.raises(InputError, match="lacks view 2"):
        cache.parts_for(tmp_path, "f" * 64, SHARD, 2, rows)


def test_samples_of_different_encoders_do_not_mix(tmp_path):
    part = put(tmp_path, np.zeros((1, 3)))
    one = index(tmp_path, [part], ["a"], "one")
    two = index(tmp_path, [part], ["a"], "two", fingerprint="e" * 64)
    with pytest.raises(InputError, match="another encoder"):
        cache.Embeddings([one, two], [("one", "a"), ("two", "a")])


def test_a_broken_part_is_named(tmp_path):
    part = put(tmp_path, np.zeros((1, 3)))
    (tmp_path / part["file"]).write_bytes(b"no array")
    with pytest.raises(InputError, match="not there or broken"):
        cache.Embeddings([index(tmp_path, [part], ["a"])], [("s", "a")])
