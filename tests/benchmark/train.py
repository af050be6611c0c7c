"""Training steps against direct transcriptions of the published training, alternating in one run.

The transcriptions hold the data as a dense float32 tensor, run every layer in float32 and write the distributions of
counts with torch.distributions: both heads of SHEST, its loss alone, and the linear layer of STImage with its negative
binomial (in float32 and in bfloat16). Ends with one line of JSON.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.distributions import NegativeBinomial
from torch.nn.functional import cross_entropy, softplus
from torch.utils.data import DataLoader, TensorDataset

from shest.labels.training_set import TrainingSet, moments
from shest.systems import nb, zinb
from shest.systems.numerics import autocast, deterministic
from shest.systems.shest import training
from shest.systems.shest.heads import Classifier, Reconstructor, Settings

DIM, CLASSES, BATCH = 1536, 6, 1024
DETECTED = 0.06  # share of a cell's genes with a count, as in 5,001-gene bundles


class Memory:
    """Embeddings in memory, read as the cache's."""

    def __init__(self, values):
        self.values, self.dim = values, values.shape[1]

    def take(self, cells, views=0):
        """Return embeddings (k, dim)."""
        return self.values[cells]


def simulate(cells, genes, seed=0):
    """Random embeddings and sparse counts; speed does not depend on what they say."""
    rng = np.random.default_rng(seed)
    counts = sparse.random(cells, genes, DETECTED, format="csr", random_state=rng, dtype=np.float32)
    counts.data = rng.geometric(0.5, counts.nnz).astype(np.float32)
    label = rng.integers(0, CLASSES, cells)
    embeddings = Memory(rng.normal(size=(cells, DIM)).astype(np.float16))
    everything = np.arange(cells)
    return TrainingSet(
        embeddings,
        counts,
        np.ones((1, genes), bool),
        np.zeros(cells, np.int64),
        label,
        everything,
        everything[:0],
        [f"t{k}" for k in range(CLASSES)],
        [f"G{k}" for k in range(genes)],
    )


def direct_nll(a, b, c, counts):
    """Zero-inflated negative binomial with torch.distributions, written as it stands in a textbook."""
    mu, theta, pi = softplus(a), softplus(b) + 1e-6, torch.sigmoid(c)
    log_nb = NegativeBinomial(total_count=theta, probs=mu / (mu + theta), validate_args=False).log_prob(counts)
    zero = torch.log(pi + (1 - pi) * log_nb.exp() + 1e-10)
    return -torch.where(counts == 0, zero, torch.log(1 - pi + 1e-10) + log_nb).mean()


def direct_steps(data, device):
    """Yield after each step of the transcription."""
    heads = [Classifier(DIM, CLASSES).to(device), Reconstructor(DIM, data.counts.shape[1]).to(device)]
    optimiser = torch.optim.AdamW([p for head in heads for p in head.parameters()], lr=0.01)
    tensors = [torch.from_numpy(x) for x in (data.source.values.astype(np.float32), data.label)]
    dataset = TensorDataset(*tensors, torch.from_numpy(data.counts.toarray()))
    while True:
        for x, label, counts in DataLoader(dataset, BATCH, shuffle=True):
            x, label, counts = x.to(device), label.to(device), counts.to(device)
            loss = cross_entropy(heads[0](x), label) + direct_nll(*heads[1](x), counts)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield loss.item()


def own_steps(data, device):
    """Yield after each step of the project."""
    settings = Settings()
    heads = {"classifier": Classifier(DIM, CLASSES), "reconstructor": Reconstructor(DIM, data.counts.shape[1])}
    trainers = [training.Trainer(name, head, settings, device) for name, head in heads.items()]
    loader = training.Loader(data, *moments(data.source, data.train), device)
    with deterministic():
        while True:
            order = np.random.default_rng(0).permutation(data.train)
            for batch in loader.batches(order, np.zeros_like(order), BATCH):
                for trainer in trainers:
                    trainer.learn(batch)
                yield


def timed(step):
    """Seconds of one step."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternate(one, other, steps, warmup=2):
    """Median seconds of both, run in turns."""
    for _ in range(warmup):
        one(), other()
    pairs = [(timed(one), timed(other)) for _ in range(steps)]
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def loss_calls(genes, device):
    """One forward and backward pass of the loss alone: the transcription's, and ours on the same float32 logits."""
    data = simulate(BATCH, genes)
    dense = torch.from_numpy(data.counts.toarray()).to(device)
    logits = [nn.Parameter(torch.randn(BATCH, genes, device=device)) for _ in range(3)]

    def direct():
        direct_nll(*logits, dense).backward()

    def own():
        zinb.nll(*logits, zinb.nonzero(data.counts).to(device)).backward()

    return direct, own


def layer_steps(genes, device, precision):
    """One step of STImage's layer: the transcription's, and ours with its logits in some precision."""
    data = simulate(BATCH, genes)
    x = torch.from_numpy(data.source.values.astype(np.float32)).to(device)
    dense = torch.from_numpy(data.counts.toarray()).to(device)
    layers = [nn.Linear(DIM, 2 * genes).to(device) for _ in range(2)]
    optimisers = [torch.optim.Adam(layer.parameters(), lr=1e-3) for layer in layers]

    def step(k, loss):
        optimisers[k].zero_grad()
        loss.backward()
        optimisers[k].step()

    def direct():
        a, b = layers[0](x).chunk(2, dim=1)
        # torch counts the failures of what the paper calls p
        distribution = NegativeBinomial(softplus(a) + 1e-6, probs=1 - torch.sigmoid(b), validate_args=False)
        step(0, -distribution.log_prob(dense).mean())

    def own():
        with autocast(device, precision):
            a, b = layers[1](x).chunk(2, dim=1)
        step(1, nb.nll(a.contiguous(), b.contiguous(), zinb.nonzero(data.counts).to(device)))

    return direct, own


def main():
    """Run, print a table, end with JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {chosen.threads} threads"
    result = {}
    print(f"{'':24}{'direct':>10}{'ours':>10}{'ratio':>8}   seconds a step, {name}")
    for genes in (377, 5_001):
        data = simulate(4 * BATCH, genes)
        runs = [direct_steps(data, device), own_steps(data, device)]
        seconds = alternate(*(lambda run=run: next(run) for run in runs), chosen.steps)
        result[f"ratio_{genes}"] = round(seconds[0] / seconds[1], 2)
        print(f"{f'both heads, {genes:,} genes':24}{seconds[0]:10.3f}{seconds[1]:10.3f}{seconds[0] / seconds[1]:8.2f}")
    seconds = alternate(*loss_calls(5_001, device), chosen.steps)
    result["zinb_ratio"] = round(seconds[0] / seconds[1], 2)
    print(f"{'ZINB, 5,001 genes':24}{seconds[0]:10.4f}{seconds[1]:10.4f}{seconds[0] / seconds[1]:8.2f}")
    for precision in ("fp32", "bf16"):
        seconds = alternate(*layer_steps(5_001, device, precision), chosen.steps)
        result[f"nb_layer_{precision}_ratio"] = round(seconds[0] / seconds[1], 2)
        title = f"NB layer, {precision}"
        print(f"{title:24}{seconds[0]:10.4f}{seconds[1]:10.4f}{seconds[0] / seconds[1]:8.2f}")
    print(json.dumps(result | {"device": name}))


if __name__ == "__main__":
    main()
