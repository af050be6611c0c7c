"""Files are whole or not there."""

import json
import os
import subprocess
import sys

import pytest

from shest.core import files


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted():
        with files.atomic_write(path) as tmp_path:
            tmp_path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "store.zarr"
    path.mkdir()
    (path / "stale").write_text("x")
    with files.atomic_write(path) as tmp_path:
        assert tmp_path.suffix == ".zarr"
        tmp_path.mkdir()
        (tmp_path / "new").write_text("y")
    assert [p.name for p in path.iterdir()] == ["new"]


def test_what_killed_processes_left_is_removed_with_the_next_write_and_nothing_else(tmp_path):
    path = tmp_path / "a.b.json"
    code = "import os, sys; from shest.core import files\n"
    code += "with files.atomic_write(sys.argv[1]) as part:\n    part.write_text('half'); os._exit(9)"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(list(tmp_path.glob(".*.part.json"))) == 3
    with files.atomic_write(tmp_path / "other.json") as part:
        part.write_text("{}")
    assert len(list(tmp_path.glob(".*.part.json"))) == 3
    living = tmp_path / f".a.b.{os.uname().nodename}-{os.getppid()}.part.json"
    elsewhere = tmp_path / ".a.b.node7-12.part.json"
    old = tmp_path / ".a.b.node7-13.part.json"
    for name in (living, elsewhere, old):
        name.write_text("half")
    os.utime(old, (1, 1))
    files.write_json(path, {})
    assert sorted(tmp_path.glob(".*")) == sorted([living, elsewhere])


def test_json_refuses_what_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
    files.write_json(tmp_path / "a.json", {"µ": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"µ": 1}


def test_digest_does_not_depend_on_the_order_of_keys():
    assert files.digest({"a": 1, "b": [1, 2]}) == files.digest({"b": [1, 2], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})
