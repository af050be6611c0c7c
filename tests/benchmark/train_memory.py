"""Anonymous memory of training on a million cells with four views each: 12 GB of embeddings, memory-mapped.

Writes synthetic embeddings to a temporary folder (12.3 GB), trains both heads for some hundred steps and prints the
largest RssAnon, which must stay below 8 GB. Ends with one line of JSON.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from shest.labels.training_set import TrainingSet, moments
from shest.systems.shest import training
from shest.systems.shest.heads import Settings, build_heads

LIMIT_GB = 8
VIEWS = 4
WRITTEN_AT_ONCE = 50_000


class Mapped:
    """Embeddings (cells, views, dim) float16 in a memory-mapped file."""

    def __init__(self, path: Path) -> None:
        self.values = np.load(path, mmap_mode="r")
        self.dim = self.values.shape[2]

    def take(self, cells: np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return embeddings (k, dim); of eight views two at a time share a row."""
        return self.values[cells, np.asarray(views) % VIEWS]


def write_embeddings(path: Path, cells: int, dim: int) -> None:
    """Write random embeddings without holding them."""
    rng = np.random.default_rng(0)
    block = rng.normal(size=(WRITTEN_AT_ONCE, VIEWS, dim)).astype(np.float16)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(cells, VIEWS, dim))
    for start in range(0, cells, WRITTEN_AT_ONCE):
        stop = min(start + WRITTEN_AT_ONCE, cells)
        file[start:stop] = block[: stop - start]
        file.flush()


def anonymous_gb() -> float:
    """Anonymous resident memory of this process: what is not a mapped file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024**2
    raise RuntimeError("no RssAnon in /proc/self/status")


class Watch(threading.Thread):
    """Keeps the largest anonymous memory seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0.0

    def run(self) -> None:
        """Look ten times a second."""
        while True:
            self.largest = max(self.largest, anonymous_gb())
            time.sleep(0.1)


def counts_of(cells: int, genes: int, detected: int) -> sparse.csr_matrix:
    """Sparse counts with as many detected genes in every cell."""
    rng = np.random.default_rng(1)
    indices = (rng.integers(0, genes, (cells, 1), dtype=np.int32) + np.arange(detected, dtype=np.int32)) % genes
    values = np.ones(cells * detected, np.float32)
    starts = np.arange(0, cells * detected + 1, detected, dtype=np.int64)
    return sparse.csr_matrix((values, np.sort(indices, axis=1).ravel(), starts), (cells, genes))


def main() -> None:
    """Run; exit status 1 where the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=377)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", help="where the 12 GB are written; a temporary folder by default")
    chosen = parser.parse_args()
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path = Path(folder) / "embeddings.npy"
        write_embeddings(path, chosen.cells, chosen.dim)
        watch.largest = 0.0
        data = TrainingSet(
            Mapped(path),
            counts_of(chosen.cells, chosen.genes, chosen.genes // 10),
            np.ones((1, chosen.genes), bool),
            np.zeros(chosen.cells, np.int64),
            np.arange(chosen.cells) % 6,
            np.arange(chosen.cells),
            np.arange(0),
            [f"t{k}" for k in range(6)],
            [f"G{k}" for k in range(chosen.genes)],
        )
        settings = Settings(views=8)
        device = torch.device("cpu")
        loader = training.Loader(data, *moments(data.source, data.train), device)
        heads = build_heads(chosen.dim, len(data.classes), chosen.genes, settings)
        trainers = [training.Trainer(name, head, settings, device) for name, head in heads.items()]
        drawn, views = training.epoch_draws(data.label[data.train], settings.views, settings.seed, 0)
        done = 0
        for batch in loader.batches(data.train[drawn], views, settings.batch):
            for trainer in trainers:
                trainer.learn(batch)
            done += 1
            if done % 20 == 0:
                print(f"step {done}: {anonymous_gb():.2f} GB anonymous, at most {watch.largest:.2f} GB", flush=True)
            if done >= chosen.steps:
                break
        print(
            json.dumps(
                {
                    "steps": done,
                    "gb_on_disk": round(path.stat().st_size / 1e9, 1),
                    "anonymous_gb": round(watch.largest, 2),
                }
            )
        )
    raise SystemExit(watch.largest >= LIMIT_GB)


if __name__ == "__main__":
    main()
