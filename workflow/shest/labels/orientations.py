"""Which cells and which of their dihedral views a model is trained on, and how many encoder passes that takes."""

import numpy as np

VIEWS = 8


def balanced_draws(labels: np.ndarray, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw cells so that every class is drawn equally often, each with one random view (paper, "Augmentation").

    A class with more cells than its share is cut (no cell twice); a smaller one is repeated, every cell as often
    as the others, give or take one.

    Parameters
    ----------
    labels : (n,) int, class of each cell
    n_draws : number of draws; what does not divide evenly goes to the classes in order
    seed : of the generator

    Returns
    -------
    cells : (n_draws,) int64, positions in ``labels``, shuffled
    views : (n_draws,) int64, 0 to 7
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    share, more = divmod(n_draws, len(classes))
    drawn = []
    for position, label in enumerate(classes):
        members, wanted = np.flatnonzero(labels == label), share + (position < more)
        rounds = -(-wanted // len(members))
        drawn.append(np.concatenate([rng.permutation(members) for _ in range(rounds)] or [members])[:wanted])
    cells = rng.permutation(np.concatenate(drawn)).astype(np.int64)
    return cells, rng.integers(0, VIEWS, n_draws)


def authors_draws(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw as the authors did, once: of each class as many as the class in the middle by size has.

    Of six classes that is the third largest: 12,554 of each, 75,324 in all, in the authors' run.
    """
    sizes = np.sort(np.unique(labels, return_counts=True)[1])
    return balanced_draws(labels, len(sizes) * int(sizes[len(sizes) // 2]), seed)


def epoch_draws(
    labels: np.ndarray, views: str | int, seed: int, epoch: int, draws: str = "balanced"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the draws (cells, views) of one epoch.

    ``views`` 1: fresh draws of the identity view, as many as there are cells; 8: the same, any view; sampled: the
    authors' draws, made once with ``seed``, in another order. ``draws`` balanced: every class as often as the others;
    natural: every cell once. The authors' are balanced.
    """
    if str(views) == "sampled":
        cells, turned = authors_draws(labels, seed)
        order = np.random.default_rng([seed, epoch]).permutation(len(cells))
        return cells[order], turned[order]
    if draws == "natural":
        rng = np.random.default_rng([seed, epoch])
        cells, turned = rng.permutation(len(labels)), rng.integers(0, VIEWS, len(labels))
    else:
        cells, turned = balanced_draws(labels, len(labels), hash_seed(seed, epoch))
    return cells, turned if str(views) == "8" else np.zeros_like(turned)


def hash_seed(*parts: int) -> int:
    """One seed out of several numbers, so that streams of different epochs and members do not meet."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def plan(labels: np.ndarray, views: str | int, seed: int, invariant: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the (cells, views) beyond the identity that training will ask for, each once, sorted.

    Every cell's identity view is encoded in any case. An invariant encoder has no other.
    """
    if invariant or str(views) == "1" or len(labels) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if str(views) == "8":
        return np.repeat(np.arange(len(labels)), VIEWS - 1), np.tile(np.arange(1, VIEWS), len(labels))
    cells, turned = authors_draws(labels, seed)
    pairs = np.unique(np.stack([cells, turned], axis=1)[turned > 0], axis=0)
    return pairs[:, 0], pairs[:, 1]


def count_passes(cells: int, train: int, test: int, drawn: int, epochs: int = 40) -> dict[str, int]:
    """Encoder passes that a training run takes.

    Parameters
    ----------
    cells : all cells that are encoded once as they stand
    train, test : training and test cells among them
    drawn : class-balanced draws
    epochs : of the authors' training

    Returns
    -------
    dict
        ``authors``: every draw and every test cell in every epoch; ``once``: every cell as it stands;
        ``sampled``: draws and test cells, once; ``all``: eight views of the training cells, and the test cells.
    """
    return {"authors": epochs * (drawn + test), "once": cells, "sampled": drawn + test, "all": VIEWS * train + test}
