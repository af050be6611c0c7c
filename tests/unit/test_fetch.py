"""Fetching: whatever a server, a network or a disk does, a file is whole and right, or it is not there."""

import hashlib
import io
import json
import random
import shutil
import signal
import ssl
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from support import webserver

from shest.core import disk
from shest.core.errors import Findings, InputError
from shest.fetch import http, plan, sources
from shest.fetch.http import RetryPolicy
from shest.fetch.sources import Bundle, Source
from shest.io.xenium_files import BUNDLE_FILES
from shest.run import config as settings
from shest.run import fetch_estimate, run_inputs

QUICK = RetryPolicy(tries=3, timeout_s=1.0, pause_s=0.01)
CONTENT = random.Random(1).randbytes(3_000_000)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def web():
    with webserver.serving() as web:
        yield web


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def starts(web) -> list[str | None]:
    return [asked[1] for asked in web.asked]


def test_a_file_is_fetched_once_checked_and_recorded(web, tmp_path):
    source = Source(web.add("a.bin", CONTENT), len(CONTENT), sha(CONTENT))
    path = sources.fetch_or_reuse(source, tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == {"a.bin", "a.bin.json"}
    record = json.loads((tmp_path / "a.bin.json").read_text())
    assert (record["bytes"], record["sha256"], record["fetched"]) == (len(CONTENT), sha(CONTENT), True)
    sources.fetch_or_reuse(source, tmp_path, QUICK)
    assert len(web.asked) == 1


def test_dropped_connections_go_on_where_they_ended(web, tmp_path):
    drops = [("drop", 700_000), ("drop", 1), ("drop", 900_000), ("drop", 0)]
    path = sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT, *drops)), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert starts(web) == [None, "bytes=700000-", "bytes=700001-", "bytes=1600001-", "bytes=1600001-"]
    assert all(asked[2] for asked in web.asked[1:])


def test_attempts_that_bring_nothing_are_counted_and_then_it_is_said(web, tmp_path):
    url = web.add("a.bin", CONTENT, ("drop", 5000), *[("drop", 0)] * 9)
    with pytest.raises(InputError, match=r"3 attempts in a row brought nothing.*ended at byte 5,000 of 3,000,000"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    assert len(web.asked) == 4
    assert not (tmp_path / "a.bin").exists()
    web.faults["a.bin"].clear()
    assert sources.fetch_or_reuse(Source(url), tmp_path, QUICK).read_bytes() == CONTENT
    assert starts(web)[-1] == "bytes=5000-"


def test_a_server_that_ignores_ranges_starts_anew(web, tmp_path):
    web.ranges = False
    path = sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT, ("drop", 700_000))), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert starts(web) == [None, "bytes=700000-"]


def test_a_file_without_validators_starts_anew(web, tmp_path):
    web.etags = web.dates = False
    path = sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT, ("drop", 700_000))), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert starts(web) == [None, None]


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changes_between_attempts_is_all_of_one_state(web, tmp_path, tags):
    web.etags = tags
    other = random.Random(2).randbytes(2_000_000)
    path = sources.fetch_or_reuse(
        Source(web.add("a.bin", CONTENT, ("drop", 700_000), ("change", other))), tmp_path, QUICK
    )
    assert path.read_bytes() == other


def test_a_server_that_resumes_another_state_is_not_believed(web, tmp_path):
    web.dates = False
    other = random.Random(2).randbytes(len(CONTENT))
    lies = ("headers", {"ETag": '"another"'})
    path = sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT, ("drop", 700_000), lies)), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert starts(web) == [None, "bytes=700000-", None]
    assert path.read_bytes() != other


def test_a_part_of_another_address_is_not_gone_on_with(web, tmp_path):
    fetch_part(web, tmp_path, "one/a.bin", 700_000)
    other = CONTENT[::-1]
    assert sources.fetch_or_reuse(Source(web.add("two/a.bin", other)), tmp_path, QUICK).read_bytes() == other


def fetch_part(web, folder, path, count):
    """Leave a part of a file behind, as a process that was killed does."""
    url = web.add(path, CONTENT, ("drop", count), *[("drop", 0)] * 3)
    with pytest.raises(InputError):
        sources.fetch_or_reuse(Source(url), folder, QUICK)
    web.faults[path].clear()
    return url


def test_another_size_than_the_configs_is_said_before_a_byte_is_kept(web, tmp_path):
    url = web.add("a.bin", CONTENT)
    with pytest.raises(InputError, match="the server has 3,000,000 bytes, the config says 5"):
        sources.fetch_or_reuse(Source(url, bytes=5), tmp_path, QUICK)
    assert not (tmp_path / "a.bin").exists()
    assert len(web.asked) == 1


def test_another_size_is_found_where_the_server_says_none(web, tmp_path):
    web.lengths = False
    with pytest.raises(InputError, match="bytes is 3000000, the config says 5"):
        sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT), bytes=5), tmp_path, QUICK)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_wrong_bytes_are_thrown_away(web, tmp_path, known):
    source = Source(web.add("a.bin", CONTENT), **known)
    with pytest.raises(InputError, match=f"{next(iter(known))} is .*, the config says 0000"):
        sources.fetch_or_reuse(source, tmp_path, QUICK)
    assert names(tmp_path) == set()


def test_a_file_fetched_again_must_be_what_its_record_says(web, tmp_path):
    url = web.add("a.bin", CONTENT)
    sources.fetch_or_reuse(Source(url), tmp_path, QUICK).unlink()
    web.files["a.bin"] = CONTENT[::-1]
    with pytest.raises(InputError, match=r"sha256 is .*, its record says .*remove .*a\.bin\.json"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    (tmp_path / "a.bin.json").unlink()
    assert sources.fetch_or_reuse(Source(url), tmp_path, QUICK).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("state", "word"), [(404, "Correct the URL"), (403, "licence or a token"), (401, "licence")])
def test_refusals_are_one_error_without_another_attempt(web, tmp_path, state, word):
    url = web.add("a.bin", CONTENT, state)
    with pytest.raises(InputError, match=f"the server answers {state} .*{word}.*by hand and put it there"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    assert len(web.asked) == 1


@pytest.mark.parametrize("state", [503, 500, 429, (503, {"Retry-After": "1"})])
def test_a_server_that_is_busy_is_asked_again(web, tmp_path, state):
    began = time.monotonic()
    url = web.add("a.bin", CONTENT, state, state)
    assert sources.fetch_or_reuse(Source(url), tmp_path, QUICK).read_bytes() == CONTENT
    assert len(web.asked) == 3
    assert isinstance(state, int) or time.monotonic() - began >= 2


@pytest.mark.parametrize("fault", [("silent", 3), ("trickle", 0.2)])
def test_a_connection_that_gives_next_to_nothing_is_opened_again(web, tmp_path, fault):
    began = time.monotonic()
    path = sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT, fault)), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert time.monotonic() - began < 5
    assert len(web.asked) == 2


def test_nothing_listens(tmp_path):
    with webserver.serving() as web:
        url = web.url + "/a.bin"
    with pytest.raises(InputError, match=r"3 attempts in a row brought nothing.*refused.*HTTPS_PROXY"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)


def test_a_proxy_is_asked_and_no_proxy_is_honoured(web, tmp_path, monkeypatch):
    web.add("a.bin", CONTENT)
    monkeypatch.setenv("HTTP_PROXY", web.url)
    path = sources.fetch_or_reuse(Source("http://published.invalid/a.bin"), tmp_path / "one", QUICK)
    assert path.read_bytes() == CONTENT
    assert web.asked[0][0] == "http://published.invalid/a.bin"
    with webserver.serving() as other:
        url = other.add("a.bin", CONTENT)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        sources.fetch_or_reuse(Source(url), tmp_path / "two", QUICK)
        assert [asked[0] for asked in other.asked] == ["a.bin"]


def test_https_goes_through_its_proxy(web, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", web.url)
    with pytest.raises(InputError, match="502"):
        sources.fetch_or_reuse(Source("https://published.invalid/a.bin"), tmp_path, QUICK)
    assert web.asked == [("published.invalid:443", "CONNECT", None)] * 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_of_nobody_is_not_trusted_until_it_is_named(web, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*request.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    web.url = web.url.replace("http:", "https:")
    source = Source(web.add("a.bin", CONTENT))
    with pytest.raises(InputError, match=r"certificate is not trusted.*SSL_CERT_FILE"):
        sources.fetch_or_reuse(source, tmp_path / "d", QUICK)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert sources.fetch_or_reuse(source, tmp_path / "d", QUICK).read_bytes() == CONTENT


def test_a_process_that_is_killed_in_the_middle_loses_nothing(web, tmp_path):
    content = random.Random(3).randbytes(20_000_000)
    web.pause = 0.02
    url = web.add("a.bin", content)
    code = (
        "import sys, pathlib; from shest.fetch import sources; from shest.fetch.http import RetryPolicy; "
        "sources.fetch_or_reuse(sources.Source(sys.argv[1]), pathlib.Path(sys.argv[2]), RetryPolicy())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url, str(tmp_path)])
    part = tmp_path / "a.bin.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(InputError, match="another process is fetching this file"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size = part.stat().st_size
    assert 1_000_000 < size < len(content)
    assert not (tmp_path / "a.bin").exists()
    web.pause = 0.0
    assert sources.fetch_or_reuse(Source(url), tmp_path, QUICK).read_bytes() == content
    assert starts(web)[-1] == f"bytes={size}-"


def test_a_disk_without_room_is_said_before_it_is_filled(web, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_000_000)
    with pytest.raises(InputError, match=r"needs 3\.0 MB, and 1\.0 MB are free"):
        sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT)), tmp_path, QUICK)
    assert (tmp_path / "a.bin.part").stat().st_size == 0


def test_a_disk_that_fills_up_is_no_reason_to_try_again(web, tmp_path, monkeypatch):
    def full(handle, piece):
        raise InputError("disk", "no room left", "Free some")

    monkeypatch.setattr(http, "_append", full)
    with pytest.raises(InputError, match="no room left"):
        sources.fetch_or_reuse(Source(web.add("a.bin", CONTENT)), tmp_path, QUICK)
    assert len(web.asked) == 1


def test_files_placed_by_hand_are_taken_without_a_network(tmp_path, caplog):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    source = Source("http://127.0.0.1:9/a.bin")
    with caplog.at_level("INFO", logger="shest"):
        sources.fetch_or_reuse(source, tmp_path, QUICK)
    assert "its size could not be asked for" in caplog.text
    assert f"it lies there, {len(CONTENT):,} bytes" in caplog.text
    assert not sources.read_record(tmp_path / "a.bin")["fetched"]
    caplog.clear()
    sources.fetch_or_reuse(Source(source.url, len(CONTENT), sha(CONTENT)), tmp_path, QUICK)
    assert "could not" not in caplog.text


def test_a_file_placed_by_hand_is_held_against_config_record_and_server_and_never_removed(web, tmp_path):
    url, path = web.add("a.bin", CONTENT), tmp_path / "a.bin"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="bytes is 2999999, the server says 3000000"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    with pytest.raises(InputError, match="bytes is 2999999, the config says 3000000"):
        sources.fetch_or_reuse(Source(url, 3_000_000), tmp_path, QUICK)
    path.write_bytes(CONTENT)
    sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(InputError, match=r"sha256 is .*, its record says"):
        sources.fetch_or_reuse(Source(url), tmp_path, QUICK)
    assert path.stat().st_size == len(CONTENT)


def test_a_link_costs_no_room_and_a_lost_link_no_download(web, tmp_path):
    source = Source(web.add("he.tif", CONTENT))
    for _ in range(2):
        sources.fetch_file(source, tmp_path, tmp_path / "b/he.tif", QUICK)
        assert (tmp_path / "b/he.tif").samefile(tmp_path / "downloads/he.tif")
        (tmp_path / "b/he.tif").unlink()
    assert len(web.asked) == 1


# --- bundles ---

MEMBERS = {name: random.Random(number).randbytes(400_000) for number, name in enumerate(BUNDLE_FILES)}
MANIFEST = {
    "num_cells": 1000,
    "panel_num_targets_predesigned": 377,
    "panel_num_targets_custom": 3,
    "transcripts_per_cell": 90.5,
    "pixel_size": 0.2125,
}
MEMBERS["experiment.xenium"] = json.dumps(MANIFEST).encode()


def archive(root: str = "", extra: dict[str, bytes] | None = None, **changed) -> bytes:
    """An archive as published: the wanted files, a large one that is not, in ``root``."""
    file = io.BytesIO()
    contents = {"transcripts.parquet": bytes(3_000_000)} | MEMBERS | changed
    with zipfile.ZipFile(file, "w") as made:
        for name, content in ({root + k: v for k, v in contents.items() if v is not None} | (extra or {})).items():
            kind = zipfile.ZIP_STORED if name.endswith("transcripts.parquet") else zipfile.ZIP_DEFLATED
            made.writestr(name, content, kind)
    return file.getvalue()


def bundle_at(web, outs: bytes, *faults) -> Bundle:
    web.add("X_he_image.ome.tif", b"image")
    web.add("X_he_imagealignment.csv", b"1,0,0\n")
    url = web.add("X_outs.zip", outs, *faults)
    return Bundle(Source(url), Source(f"{web.url}/X_he_image.ome.tif"), Source(f"{web.url}/X_he_imagealignment.csv"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("root", ["", "outs/"])
def test_only_the_wanted_members_are_read_from_the_server(web, tmp_path, root):
    bundle = bundle_at(web, archive(root))
    sources.fetch_bundle(bundle, tmp_path, tmp_path / "x", "members", QUICK)
    assert contents(tmp_path / "x") == MEMBERS
    assert names(tmp_path / "downloads") == {"X_outs.zip.json"}
    assert not any(asked == "bytes=0-" for asked in starts(web))


def test_members_survive_drops_and_silence(web, tmp_path):
    reads = requests_of_a_clean_run(web, tmp_path)
    faults = [503, *[None] * (reads - 1), ("drop", 100_000), ("silent", 3), ("drop", 70_000)]
    sources.fetch_bundle(bundle_at(web, archive(), *faults), tmp_path / "d", tmp_path / "d/x", "members", QUICK)
    assert contents(tmp_path / "d/x") == MEMBERS
    assert not web.faults["X_outs.zip"]
    sizes = [int(start.split("=")[1].split("-")[0]) for start in starts(web)[-3:]]
    assert [sizes[1] - sizes[0], sizes[2] - sizes[1]] == [0, 70_000]


def requests_of_a_clean_run(web, folder) -> int:
    """How often an archive is asked for where nothing goes wrong."""
    sources.fetch_bundle(bundle_at(web, archive()), folder / "clean", folder / "clean/x", "members", QUICK)
    return len(web.asked)


def test_an_archive_that_changes_while_it_is_read_is_refused(web, tmp_path):
    faults = [None] * (requests_of_a_clean_run(web, tmp_path) - 1) + [("change", archive(root="outs/"))]
    with pytest.raises(InputError, match="has changed while it was read"):
        sources.fetch_bundle(bundle_at(web, archive(), *faults), tmp_path / "d", tmp_path / "d/x", "members", QUICK)


def test_a_server_that_goes_on_with_another_state_of_an_archive_is_not_believed(web, tmp_path):
    lies = ("headers", {"ETag": '"another"'})
    faults = [None] * (requests_of_a_clean_run(web, tmp_path) - 1) + [lies]
    with pytest.raises(InputError, match="has changed while it was read"):
        sources.fetch_bundle(bundle_at(web, archive(), *faults), tmp_path / "d", tmp_path / "d/x", "members", QUICK)


def test_other_members_than_the_first_time_are_refused(web, tmp_path):
    sources.fetch_bundle(bundle_at(web, archive()), tmp_path, tmp_path / "x", "members", QUICK)
    other = bundle_at(web, archive(**{"cells.parquet": b"other"}))
    with pytest.raises(InputError, match="others than those that were fetched first"):
        sources.fetch_bundle(other, tmp_path, tmp_path / "x", "members", QUICK)
    assert not (tmp_path / "x/cells.parquet").exists()


@pytest.mark.parametrize(("archives", "left"), [("drop", set()), ("keep", {"X_outs.zip"})])
def test_a_whole_archive_is_kept_or_dropped(web, tmp_path, archives, left):
    sources.fetch_bundle(bundle_at(web, archive()), tmp_path, tmp_path / "x", archives, QUICK)
    assert contents(tmp_path / "x") == MEMBERS
    assert names(tmp_path / "downloads") == left | {"X_outs.zip.json"}
    assert starts(web) == [None]


def test_without_ranges_the_archive_is_fetched_whole(web, tmp_path):
    web.ranges = False
    sources.fetch_bundle(bundle_at(web, archive()), tmp_path, tmp_path / "x", "members", QUICK)
    assert contents(tmp_path / "x") == MEMBERS
    assert names(tmp_path / "downloads") == {"X_outs.zip.json"}


def test_a_checksum_of_the_archive_is_checked_on_all_of_it(web, tmp_path):
    bundle = bundle_at(web, archive())
    wrong = Bundle(Source(bundle.outs.url, sha256="0" * 64), bundle.he_image, bundle.alignment)
    with pytest.raises(InputError, match=r"sha256 is .*, the config says 0000"):
        sources.fetch_bundle(wrong, tmp_path, tmp_path / "x", "members", QUICK)
    assert not (tmp_path / "x").exists()


def test_an_archive_of_another_size_is_refused(web, tmp_path):
    bundle = bundle_at(web, archive())
    wrong = Bundle(Source(bundle.outs.url, bytes=22_618_312_339), bundle.he_image, bundle.alignment)
    for archives in ("members", "drop"):
        with pytest.raises(InputError, match=r"the server has [\d,]+ bytes, the config says 22,618,312,339"):
            sources.fetch_bundle(wrong, tmp_path, tmp_path / "x", archives, QUICK)


def test_an_archive_placed_by_hand_is_used_and_stays(tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/X_outs.zip").write_bytes(archive())
    nowhere = [Source(f"http://127.0.0.1:9/X_{name}") for name in ("outs.zip", "i.tif", "a.csv")]
    for archives in ("members", "drop"):
        sources.fetch_bundle(Bundle(*nowhere), tmp_path, tmp_path / "x", archives, QUICK)
        assert contents(tmp_path / "x") == MEMBERS
        assert (tmp_path / "downloads/X_outs.zip").exists()


def a_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


EVIL = {
    "absolute": (lambda: archive(extra={"/etc/passwd": b"x"}), "leaves its folder"),
    "up": (lambda: archive(extra={"a/../../b": b"x"}), "leaves its folder"),
    "drive": (lambda: archive(extra={"C:\\b": b"x"}), "leaves its folder"),
    "wanted by another way": (lambda: archive(root="../"), "leaves its folder"),
    "no bundle": (lambda: archive(**{"experiment.xenium": None}), "0 files experiment.xenium in it"),
    "two bundles": (lambda: archive(extra={"b/experiment.xenium": b"{}"}), "2 files experiment.xenium in it"),
    "a file too few": (lambda: archive(**{"cells.zarr.zip": None}), "0 files cells.zarr.zip in it"),
    "truncated": (lambda: archive()[:-1000], "cannot be unpacked"),
    "no archive": (lambda: b"<html>sorry</html>" * 1000, "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("archives", ["members", "keep"])
def test_an_evil_or_broken_archive_writes_nothing(web, tmp_path, kind, archives):
    make, word = EVIL[kind]
    with pytest.raises(InputError, match=word):
        sources.fetch_bundle(bundle_at(web, make()), tmp_path / "d", tmp_path / "d/x", archives, QUICK)
    assert not (tmp_path / "d/x").exists()
    assert names(tmp_path) <= {"d"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("member", "word"), [("cells.parquet", "2 files cells.parquet"), (None, "is a link")])
def test_a_link_or_a_file_twice_is_refused(web, tmp_path, member, word):
    file = io.BytesIO(archive(**({} if member else {"cells.parquet": None})))
    with zipfile.ZipFile(file, "a") as made:
        made.writestr(member or a_link("cells.parquet"), "/etc/passwd")
    with pytest.raises(InputError, match=word):
        sources.fetch_bundle(bundle_at(web, file.getvalue()), tmp_path, tmp_path / "x", "members", QUICK)
    assert not (tmp_path / "x").exists()


def test_a_member_with_a_wrong_byte_is_not_written(web, tmp_path):
    content = bytearray(archive())
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        info = made.getinfo("cells.parquet")
    content[info.header_offset + 200_000] ^= 255
    with pytest.raises(InputError, match="cannot be unpacked"):
        sources.fetch_bundle(bundle_at(web, bytes(content)), tmp_path, tmp_path / "x", "members", QUICK)
    assert "cells.parquet" not in names(tmp_path / "x")


def test_an_archive_that_does_not_fit_unpacked_is_refused(web, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_000_000)
    with pytest.raises(InputError, match=r"unpacking .* needs 1\.6 MB, and 1\.0 MB are free"):
        sources.fetch_bundle(bundle_at(web, archive()), tmp_path, tmp_path / "x", "members", QUICK)


# --- what it will take ---


def settings_for(web, **change) -> dict:
    fetched = {"bundles": {"x": {"url": f"{web.url}/X"}}, "files": {"luca.h5ad": {"url": f"{web.url}/r/1.h5ad"}}}
    fetched |= change
    minimal = {
        "samples": "s",
        "reference": {"path": "{fetched}/luca.h5ad"},
        "fetch": fetched,
        "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b"]}},
    }
    findings = Findings()
    filled = settings.check_config(minimal, "c", findings)
    assert findings.problems == []
    return filled


def test_the_plan_asks_for_little_and_knows_cells_genes_and_sizes(web, tmp_path):
    bundle_at(web, archive())
    web.add("r/1.h5ad", CONTENT)
    config, findings = settings_for(web), Findings()
    planned = plan.plan(config["fetch"], tmp_path, findings)
    assert findings.problems == []
    assert set(planned) == {"luca.h5ad", "x/X_he_image.ome.tif", "x/X_he_imagealignment.csv", "x"}
    assert planned["luca.h5ad"] == {"transfer": 3_000_000, "disk": 3_000_000, "present": False}
    assert planned["x"]["disk"] == sum(map(len, MEMBERS.values()))
    assert 1_600_000 < planned["x"]["transfer"] < 1_700_000
    assert (planned["x"]["cells"], planned["x"]["genes"], planned["x"]["values"]) == (1000, 380, 90_500)
    row = {"path": str(tmp_path / "x"), "role": "train"}
    size = fetch_estimate.size(planned, row, config["fetch"], tmp_path)
    assert (size.cells, size.genes, size.values) == (1000, 380, 90_500)
    lines = "\n".join(plan.describe(planned, tmp_path))
    assert "to be fetched: 4.6 MB: 0 s at 10 MB/s" in lines
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_what_is_there_and_names_every_address_that_fails(web, tmp_path):
    bundle = bundle_at(web, archive())
    config, findings = settings_for(web, files={"luca.h5ad": {"url": f"{web.url}/none.h5ad"}}), Findings()
    sources.fetch_file(bundle.alignment, tmp_path, tmp_path / "x/X_he_imagealignment.csv", QUICK)
    sources.fetch_bundle(bundle, tmp_path, tmp_path / "x", "drop", QUICK)
    del web.files["X_he_image.ome.tif"]
    planned = plan.plan(config["fetch"], tmp_path, findings)
    assert [planned[name]["present"] for name in ("x/X_he_imagealignment.csv", "x")] == [True, True]
    assert [Path(problem.path).name for problem in findings.problems] == ["none.h5ad", "X_he_image.ome.tif"]


def test_the_plan_of_an_archive_placed_by_hand_is_to_unpack_it(web, tmp_path):
    bundle_at(web, archive())
    web.add("r/1.h5ad", CONTENT)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/X_outs.zip").write_bytes(archive())
    planned = plan.plan(settings_for(web)["fetch"], tmp_path, Findings())
    assert (planned["x"]["transfer"], planned["x"]["present"], planned["x"]["cells"]) == (0, True, 1000)
    assert planned["x"]["disk"] == sum(map(len, MEMBERS.values()))
    assert "X_outs.zip" not in {asked[0] for asked in web.asked}


def test_the_plan_says_a_disk_that_is_too_small(web, tmp_path, monkeypatch):
    bundle_at(web, archive())
    web.add("r/1.h5ad", CONTENT)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 4_000_000)
    config, findings = settings_for(web, archives="keep"), Findings()
    planned = plan.plan(config["fetch"], tmp_path, findings)
    plan.check_disk(planned, tmp_path, findings)
    assert "fetching needs 9.2 MB, and 4.0 MB are free" in str(findings.problems[0])


# --- config and sheet ---


def load(folder: Path, fetched: dict, path: str = "{fetched}/x", reference: str = "{fetched}/r.h5ad"):
    (folder / "s.tsv").write_text(f"sample\trole\tpath\na\ttrain\t{path}\n")
    config = {
        "samples": "s.tsv",
        "reference": {"path": reference},
        "fetch": fetched,
        "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b"]}},
    }
    findings = Findings()
    run = run_inputs.load(config, folder / "c.yaml", findings)
    return run, [str(problem) for problem in findings.problems]


GOOD = {"bundles": {"x": {"url": "https://h/p/X"}}, "files": {"r.h5ad": {"url": "https://h/7f.h5ad"}}}


def test_a_fetched_bundle_needs_no_file_when_the_workflow_is_read(tmp_path):
    run, problems = load(tmp_path, GOOD | {"dir": "elsewhere"})
    assert problems == []
    assert run.reference == "elsewhere/r.h5ad"
    assert run.samples["a"]["path"] == "elsewhere/x"
    assert run.samples["a"]["he_image"] == "elsewhere/x/X_he_image.ome.tif"
    assert run.samples["a"]["alignment"] == "elsewhere/x/X_he_imagealignment.csv"


@pytest.mark.parametrize(
    ("fetched", "change", "word"),
    [
        (GOOD, {"path": "{fetched}/y"}, "neither fetch.files nor fetch.bundles has y"),
        (GOOD, {"reference": "{fetched}/s.h5ad"}, "has s.h5ad. Did you mean r.h5ad?"),
        ({"bundles": {"x": {}}}, {}, "fetch.bundles.x: no address of outs. Give url, or outs.url"),
        (GOOD | {"files": {"x": {"url": "https://h/1"}}}, {}, "x is a file and a bundle"),
        (GOOD | {"files": {"a": {"url": "https://h/1"}, "b": {"url": "https://i/1"}}}, {}, "two addresses end in 1"),
        (GOOD | {"files": {"a": {"url": "file:///etc/passwd"}}}, {}, "fetch.files.a.url"),
        (GOOD | {"dir": "$NOWHERE_AT_ALL/x"}, {}, "fetch.dir needs the environment variable NOWHERE_AT_ALL"),
    ],
)
def test_mistakes_in_what_is_to_be_fetched_are_said(tmp_path, fetched, change, word):
    assert any(word in problem for problem in load(tmp_path, fetched, **change)[1])


def test_a_variable_that_is_not_set_is_one_problem_and_not_a_missing_folder_as_well(tmp_path):
    problems = load(tmp_path, GOOD, path="$NOWHERE_AT_ALL/x")[1]
    assert len(problems) == 1
    assert "needs the environment variable NOWHERE_AT_ALL" in problems[0]


def test_hub_encoders_are_those_whose_weights_are_on_the_hub():
    weights = {"h-optimus-0": "hub:bioptimus/H-optimus-0", "resnet50": "/models/r", "densenet121": "random"}
    encoders = [{"name": "morphometrics"}, *({"name": name, "weights": text} for name, text in weights.items())]
    assert sources.hub_encoders(encoders) == ["h-optimus-0"]
