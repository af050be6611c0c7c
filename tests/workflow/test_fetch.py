"""Public data through snakemake: fetched from a server of its own, ingested, and planned without a network."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from support import bundles, webserver

from shest.core.files import sha256

R = "results/mine"
DEAD_END = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A server with a bundle and a reference, as they are published, and the folder that they were made in."""
    folder = tmp_path_factory.mktemp("published")
    bundle = bundles.simulate(folder, "a")
    bundles.simulate_reference(folder / "reference.h5ad")
    with zipfile.ZipFile(folder / "outs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in bundle.rglob("*") if p.is_file() and "he_" not in p.name):
            archive.write(path, path.relative_to(bundle))
    with webserver.serving() as web:
        web.add("p/X_outs.zip", (folder / "outs.zip").read_bytes())
        web.add("p/X_he_image.ome.tif", bundles.he_image(bundle).read_bytes(), ("drop", 5000))
        web.add("p/X_he_imagealignment.csv", bundles.alignment(bundle).read_bytes())
        web.add("r/7f.h5ad", (folder / "reference.h5ad").read_bytes(), 503)
        yield web, folder


def write_config(folder: Path, url: str, **change) -> None:
    types = {name: {"subtypes": members} for name, members in bundles.SUBTYPES.items()}
    files, whole = {"reference.h5ad": {"url": f"{url}/r/7f.h5ad"}}, {"lung": {"url": f"{url}/p/X"}}
    config = {
        "results": R,
        "samples": "samples.tsv",
        "cell_types": types,
        "reference": {"path": "{fetched}/reference.h5ad", "exclude": {"platform": ["Smart-seq2"]}},
        "fetch": {"dir": "public", "files": files, "bundles": whole} | change,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "samples.tsv").write_text("sample\trole\tpath\na\ttrain\t{fetched}/lung\n")


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"} | variables
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def call(folder: Path, root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    options = ["--snakefile", str(root / "Snakefile"), "--cores", "1", "--configfile", "config.yaml"]
    return run(folder, "snakemake", *arguments, *options, **variables)


def check(folder: Path) -> subprocess.CompletedProcess:
    return run(folder, sys.executable, "-m", "shest.run.check", "config.yaml")


@pytest.fixture(scope="module")
def fetched(published, tmp_path_factory, root):
    """A folder into which the public data were fetched, and the bundle ingested."""
    folder = tmp_path_factory.mktemp("fetched")
    write_config(folder, published[0].url)
    done = call(folder, root, f"{R}/samples/a/ingest.json", "public/reference.h5ad")
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


def test_a_published_bundle_is_fetched_and_ingested(published, fetched):
    web, made = published
    for name in ("cells.parquet", "cells.zarr.zip", "experiment.xenium"):
        assert (fetched / "public/lung" / name).read_bytes() == (made / "a" / name).read_bytes()
    image = fetched / "public/lung/X_he_image.ome.tif"
    assert image.read_bytes() == bundles.he_image(made / "a").read_bytes()
    assert not (fetched / "public/lung/cell_boundaries.parquet").exists()
    assert {p.name for p in (fetched / "public/downloads").iterdir()} == {
        "7f.h5ad",
        "7f.h5ad.json",
        "X_he_image.ome.tif",
        "X_he_image.ome.tif.json",
        "X_he_imagealignment.csv",
        "X_he_imagealignment.csv.json",
        "X_outs.zip.json",
    }
    assert ("p/X_he_image.ome.tif", "bytes=5000-") in [asked[:2] for asked in web.asked]


def test_nothing_is_fetched_again_and_a_checksum_that_comes_later_redoes_nothing(published, fetched, root):
    asked = len(published[0].asked)
    (fetched / "public/reference.h5ad").unlink()
    known = {"sha256": sha256(fetched / "public/lung/X_he_image.ome.tif")}
    lung = {"url": f"{published[0].url}/p/X", "he_image": known}
    write_config(fetched, published[0].url, tries=3, bundles={"lung": lung})
    assert "Nothing to be done" in call(fetched, root, f"{R}/samples/a/ingest.json", "--dry-run").stdout
    done = call(fetched, root, "fetch")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "7f.h5ad: it lies there" in done.stdout
    assert len(published[0].asked) == asked


def test_what_is_needed_is_said_before_anything_is_fetched(published, tmp_path):
    write_config(tmp_path, published[0].url)
    done = check(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    for word in (
        "lung/X_he_image.ome.tif: to be fetched",
        "to be fetched: ",
        "s at 10 MB/s",
        "disk for it: ",
        "disk: about",
        "passes through morphometrics: 120",
        "time: rough",
    ):
        assert word in done.stdout, word
    assert not (tmp_path / "public").exists()


def test_what_is_needed_is_looked_up_in_the_files_once_they_are_there(fetched):
    done = check(fetched)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "a (train, Xenium 3.0.0): 120 cells" in done.stdout
    assert "to be fetched" not in done.stdout


def test_an_address_that_is_wrong_is_one_sentence_and_nothing_runs(published, tmp_path, root):
    write_config(tmp_path, published[0].url + "/none")
    done = call(tmp_path, root, f"{R}/samples/a/ingest.json")
    assert done.returncode != 0
    assert "none/" in done.stdout
    assert "the server answers 404 Not Found. Correct the URL. Or fetch it by hand and put it there: " in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / R / "samples/a").exists()


def test_weights_of_the_hub_are_fetched_ahead_of_the_run(published, fetched, root, tmp_path):
    hub = tmp_path / "hub/models--timm--resnet50.a1_in1k"
    for path, text in (("refs/main", "7a"), ("snapshots/7a/model.safetensors", "weights")):
        (hub / path).parent.mkdir(parents=True, exist_ok=True)
        (hub / path).write_text(text)
    config = yaml.safe_load((fetched / "config.yaml").read_text())
    (fetched / "config.yaml").write_text(yaml.safe_dump(config | {"encoders": ["resnet50"]}))
    there = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = call(fetched, root, "fetch", **there)
    assert done.returncode == 0, done.stdout[-3000:]
    record = json.loads((fetched / R / "embeddings/resnet50/weights.json").read_text())
    assert record["sha256"] == sha256(hub / "snapshots/7a/model.safetensors")
    done = call(fetched, root, "fetch", **there | {"HF_HUB_CACHE": str(tmp_path / "none")})
    assert done.returncode != 0
    assert "the hub cannot be reached and its cache does not hold the weights" in done.stdout


def test_the_papers_run_is_planned_without_data_and_without_a_network(root, tmp_path):
    code = (
        "import socket, sys; refuse = lambda *a, **k: (_ for _ in ()).throw(OSError('the network was touched')); "
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse; "
        "from snakemake.cli import main; main(sys.argv[1:])"
    )
    options = ["-n", "--snakefile", root / "Snakefile", "--directory", tmp_path]
    command = [sys.executable, "-c", code, *options, "--configfile", root / "config/paper.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | DEAD_END)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for sample in ("prime_lung", "v1_lung_io", "v1_lung"):
        assert f"results/paper/predictions/shest/strict/{sample}.cells.h5ad" in done.stdout + done.stderr
    counts = dict(line.split() for line in (done.stdout + done.stderr).splitlines() if len(line.split()) == 2)
    assert (counts["fetch_bundle"], counts["fetch_file"], counts["ingest"]) == ("3", "7", "3")
    assert not (tmp_path / "data").exists()


def test_the_papers_config_has_the_papers_parameters(root):
    config = yaml.safe_load((root / "config/paper.yaml").read_text())
    subtypes = [name for entry in config["cell_types"].values() for name in entry["subtypes"]]
    assert len(config["cell_types"]) == 6
    assert len(subtypes) == len(set(subtypes)) == 25
    assert (config["train"]["batch"], config["train"]["learning_rate"], config["train"]["epochs"]) == (1024, 0.01, 40)
    assert (config["train"]["views"], config["train"]["draws"]) == ("sampled", "balanced")
    assert config["fetch"]["bundles"]["prime_lung"]["outs"]["bytes"] == 22_618_312_339
    assert (config["encoders"], config["protocols"]) == (["h-optimus-0"], ["strict", "paper"])
