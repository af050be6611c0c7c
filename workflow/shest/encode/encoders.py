"""Encoders by name: what each is, where its weights come from, and its fingerprint.

An encoder turns quadruple tiles into embeddings. It is frozen: the same tile gives the same embedding for ever,
so its fingerprint (architecture, preprocessing, weights, precision, batch size) names the embeddings it made.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shest.core.errors import InputError
from shest.core.files import digest, sha256

TILE = 224
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Entry:
    """What the config or the registry says of a timm backbone.

    Attributes
    ----------
    weights
        ``hub:OWNER/NAME``, a local folder with config.json and model.safetensors, a local file, or ``random``.
    mean, std
        Normalisation of values in 0 to 1.
    input_px
        Side of the input; the 224 px tile is resized (bilinear) where it differs.
    features
        Length of the embedding.
    """

    name: str
    architecture: str
    weights: str
    features: int
    mean: tuple[float, ...] = IMAGENET["mean"]
    std: tuple[float, ...] = IMAGENET["std"]
    input_px: int = TILE
    revision: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


MORPHOMETRICS = "morphometrics"
REGISTRY = {
    "h-optimus-0": Entry(
        name="h-optimus-0",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={"img_size": 224, "init_values": 1e-5, "global_pool": "token"},
        weights="hub:bioptimus/H-optimus-0",
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
        features=1536,
    ),
    "resnet50": Entry("resnet50", "resnet50", "hub:timm/resnet50.a1_in1k", 2048),
    "densenet121": Entry("densenet121", "densenet121", "hub:timm/densenet121.ra_in1k", 1024),
    "efficientnet_b0": Entry("efficientnet_b0", "efficientnet_b0", "hub:timm/efficientnet_b0.ra_in1k", 1280),
}


def entry_of(encoder: str | dict) -> Entry | None:
    """Return the entry of a name or of a config entry; None for ``morphometrics``.

    A config entry that carries a registry name changes that entry's keys (say, ``weights``).

    Raises
    ------
    InputError
        The name is unknown, or an entry of one's own lacks architecture, weights or features.
    """
    own = {"name": encoder} if isinstance(encoder, str) else dict(encoder)
    name = own["name"]
    if name == MORPHOMETRICS:
        return None
    base = asdict(REGISTRY[name]) if name in REGISTRY else {}
    merged = base | {k: tuple(v) if k in ("mean", "std") else v for k, v in own.items()}
    lacking = [key for key in ("architecture", "weights", "features") if key not in merged]
    if lacking and not base:
        known = ", ".join([MORPHOMETRICS, *REGISTRY])
        said = f"not a known encoder ({known}), and its entry lacks {', '.join(lacking)}"
        raise InputError(f"encoders: {name}", said, "Add the missing keys, or use a known name")
    return Entry(**merged)


def find_weights(entry: Entry) -> Path | None:
    """Return the local file with the weights, fetched from the hub's cache or the hub if need be.

    Raises
    ------
    InputError
        The file is not there, cannot be fetched, or needs a token; says what to fetch and where to put it.
    """
    if entry.weights == "random":
        return None
    if entry.weights.startswith("hub:"):
        return _from_hub(entry)
    path = Path(entry.weights).expanduser()
    if path.is_dir():
        found = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise InputError(path, "no model.safetensors in this folder", f"Put the weights of {entry.name} there")
        return found[0]
    if not path.is_file():
        remedy = "Set the entry's weights to a folder with model.safetensors, a file, or hub:OWNER/NAME"
        raise InputError(path, f"the weights of {entry.name} are not there", remedy)
    return path


def _from_hub(entry: Entry) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    repository = entry.weights.removeprefix("hub:")
    by_hand = (
        f"Fetch model.safetensors and config.json of {repository} by hand, put them into one folder and set "
        f"the weights of encoder {entry.name} to it"
    )
    for name in WEIGHT_FILES:
        try:
            return Path(hf_hub_download(repository, name, revision=entry.revision))
        except GatedRepoError:
            raise InputError(
                entry.weights,
                "access to these weights needs a licence and a token",
                f"Accept the licence on the hub and set HF_TOKEN. Or: {by_hand}",
            ) from None
        except LocalEntryNotFoundError:
            raise InputError(
                entry.weights, "the hub cannot be reached and its cache does not hold the weights", by_hand
            ) from None
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise InputError(
                entry.weights, f"the weights cannot be fetched ({type(error).__name__}: {error})", by_hand
            ) from None
    raise InputError(entry.weights, f"the repository has none of {', '.join(WEIGHT_FILES)}", by_hand)


def with_folder_settings(entry: Entry, encoder: str | dict, weights: Path | None) -> Entry:
    """Take mean and std of a local folder's config.json where neither config nor registry give them."""
    given = set(encoder) if isinstance(encoder, dict) else set()
    settings = weights.parent / "config.json" if weights else None
    if entry.name in REGISTRY or {"mean", "std"} <= given or settings is None or not settings.is_file():
        return entry
    stored = json.loads(settings.read_text())
    stored = stored.get("pretrained_cfg", stored)
    found = {key: tuple(stored[key]) for key in ("mean", "std") if key in stored and key not in given}
    return Entry(**(asdict(entry) | found))


def build(entry: Entry, weights: Path | None) -> "Any":
    """Build the frozen backbone and load its weights, on the CPU, in float32.

    Raises
    ------
    InputError
        timm does not know the architecture, or the weights do not fit it.
    """
    import timm
    import torch

    arguments = {"num_classes": 0} | {k: _layer(k, v) for k, v in entry.arguments.items()}
    try:
        torch.manual_seed(0)  # only matters for random weights
        model = timm.create_model(entry.architecture, pretrained=False, **arguments)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"encoders: {entry.name}",
            f"timm cannot build {entry.architecture} ({error})",
            "Check architecture and arguments",
        ) from None
    if model.num_features != entry.features:
        raise InputError(
            f"encoders: {entry.name}",
            f"{entry.architecture} gives {model.num_features} features, not {entry.features}",
            "Correct features or architecture",
        )
    if weights is not None:
        _load(model, weights, entry)
    return model.eval().requires_grad_(False)


def _layer(key: str, value: Any) -> Any:
    """Turn the name of a layer class (mlp_layer: SwiGLUPacked) into the class that timm wants."""
    import timm.layers

    return getattr(timm.layers, value, value) if key.endswith("_layer") and isinstance(value, str) else value


def _load(model: Any, weights: Path, entry: Entry) -> None:
    import torch
    from safetensors.torch import load_file

    try:
        safe = weights.suffix == ".safetensors"
        state = load_file(weights) if safe else torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(weights, f"no weights that can be read safely ({error})", "Fetch the file again") from None
    head = model.pretrained_cfg.get("classifier") or "head"
    heads = (head,) if isinstance(head, str) else tuple(head)
    state = {k: v for k, v in state.items() if k in model.state_dict() or k.split(".")[0] not in heads}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise InputError(
            weights, f"not the weights of {entry.architecture}: {first}", f"Use the weights published for {entry.name}"
        ) from None


def fingerprint(settings: dict) -> str:
    """Return the digest that names everything the embeddings depend on but the pixels."""
    return digest(settings)


def prepare(encoder: str | dict, precision: str, batch: int | str) -> dict:
    """Settle everything about an encoder: find its weights, choose precision and batch size, take its fingerprint.

    Parameters
    ----------
    encoder
        A name or a config entry.
    precision
        ``auto`` (bf16 on a GPU, fp32 on a CPU), ``fp32``, ``bf16``, ``fp16``.
    batch
        Tiles at once, or ``auto``: what the memory holds.

    Returns
    -------
    dict
        The record that ``encoder.json`` holds and :func:`shest.encode.runner.load` takes.
    """
    entry = entry_of(encoder)
    if entry is None:
        from shest.encode import morphometrics as m

        settings = {"name": MORPHOMETRICS, "version": m.VERSION, "features": m.feature_names()}
        return {
            "name": MORPHOMETRICS,
            "kind": MORPHOMETRICS,
            "dim": len(settings["features"]),
            "invariant": True,
            "weights": None,
            "fingerprint": fingerprint(settings),
            "settings": settings,
        }
    from shest.encode import timm_encoder

    weights = find_weights(entry)
    entry = with_folder_settings(entry, encoder, weights)
    device = timm_encoder.device()
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if batch == "auto":
        batch = timm_encoder.largest_batch(build(entry, weights), entry, precision, device)
    settings = {
        "architecture": entry.architecture,
        "arguments": entry.arguments,
        "weights_sha256": sha256(weights) if weights else "random",
        "mean": entry.mean,
        "std": entry.std,
        "input_px": entry.input_px,
        "features": entry.features,
        "precision": precision,
        "batch": batch,
        "device": device.type,
    }
    return {
        "name": entry.name,
        "kind": "timm",
        "dim": entry.features,
        "invariant": False,
        "weights": str(weights) if weights else None,
        "entry": asdict(entry),
        "fingerprint": fingerprint(settings),
        "settings": settings,
    }


class Morphometrics:
    """The embedded encoder: features of scikit-image, in parallel processes."""

    def __init__(self, record: dict, threads: int = 1) -> None:
        self.dim, self.batch, self.threads = record["dim"], 256, threads

    def describe(self) -> str:
        """Say what encodes."""
        return f"morphometrics on {self.threads} CPU processes"

    def encode(self, windows: np.ndarray, masks: np.ndarray, view: int) -> np.ndarray:
        """Encode (n, h, w, 3) uint8 windows with their packed masks (n, 1568) -> (n, dim) float32; views are alike."""
        from joblib import Parallel, delayed

        from shest.encode import morphometrics
        from shest.tiles import quadruple

        quadrants = quadruple.assemble(windows, masks)[:, : quadruple.SIDE, : quadruple.SIDE]
        unpacked = np.unpackbits(masks, axis=1).reshape(-1, quadruple.SIDE, quadruple.SIDE).astype(bool)
        pieces = np.array_split(np.arange(len(windows)), self.threads)
        rows = Parallel(n_jobs=self.threads)(
            delayed(morphometrics.features)(quadrants[piece], unpacked[piece]) for piece in pieces
        )
        return np.concatenate(rows)
