"""What an encoder is: the registry, and the entries of the config with what the registry knows filled in.

An encoder turns quadruple tiles into embeddings. It is frozen: the same tile gives the same embedding for ever,
so its fingerprint (architecture, preprocessing, weights, precision, batch size) names the embeddings it made.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shest.core.errors import InputError

TILE = 224
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MORPHOMETRICS = "morphometrics"


@dataclass(frozen=True)
class EncoderSpec:
    """What the config or the registry says of a timm encoder.

    Attributes
    ----------
    weights
        ``hub:OWNER/NAME``, a local folder with config.json and model.safetensors, a local file, or ``random``.
    features
        Length of the embedding.
    mean, std
        Normalisation of values in 0 to 1; None: of the weights' folder, or else ImageNet's.
    input_px
        Side of the input; the 224 px tile is resized (bilinear) where it differs.
    revision
        Commit of the hub repository.
    arguments
        Further arguments of ``timm.create_model``.
    gflop
        Operations of one image, two a multiply-add, 10⁹; None: unknown. Only estimates of time ask for it.
    """

    name: str
    architecture: str
    weights: str
    features: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_px: int = TILE
    revision: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    gflop: float | None = None


REGISTRY: dict[str, dict[str, Any]] = {
    "h-optimus-0": {
        "architecture": "vit_giant_patch14_reg4_dinov2",
        "arguments": {"img_size": 224, "init_values": 1e-5, "global_pool": "token"},
        "weights": "hub:bioptimus/H-optimus-0",
        "mean": (0.707223, 0.578729, 0.703617),
        "std": (0.211883, 0.230117, 0.177517),
        "features": 1536,
        "gflop": 608,
    },
    "resnet50": {
        "architecture": "resnet50",
        "weights": "hub:timm/resnet50.a1_in1k",
        "features": 2048,
        "gflop": 8.2,
        **IMAGENET,
    },
    "densenet121": {
        "architecture": "densenet121",
        "weights": "hub:timm/densenet121.ra_in1k",
        "features": 1024,
        "gflop": 5.7,
        **IMAGENET,
    },
    "efficientnet_b0": {
        "architecture": "efficientnet_b0",
        "weights": "hub:timm/efficientnet_b0.ra_in1k",
        "features": 1280,
        "gflop": 0.8,
        **IMAGENET,
    },
}
GFLOP = {known["architecture"]: known["gflop"] for known in REGISTRY.values()}


def complete(entry: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the config with every key of :class:`EncoderSpec`; of ``morphometrics`` the name alone.

    An entry that carries a name of the registry changes that encoder's keys (say, ``weights``).

    Raises
    ------
    InputError
        The name is unknown, or an entry of one's own lacks architecture, weights or features.
    """
    own = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = own["name"]
    if name == MORPHOMETRICS:
        return {"name": name}
    merged = REGISTRY.get(name, {}) | own
    lacking = [key for key in ("architecture", "weights", "features") if key not in merged]
    if lacking:
        known = ", ".join([MORPHOMETRICS, *REGISTRY])
        problem = f"not a known encoder ({known}), and its entry lacks {', '.join(lacking)}"
        raise InputError(f"encoders: {name}", problem, "Add the missing keys, or use a known name")
    return asdict(EncoderSpec(**{"gflop": GFLOP.get(merged["architecture"])} | merged))


def spec_of(entry: Mapping[str, Any]) -> EncoderSpec:
    """Return the spec of a completed entry, or of the one that an ``encoder.json`` holds."""
    colours = {key: tuple(entry[key]) for key in ("mean", "std") if entry.get(key) is not None}
    return EncoderSpec(**dict(entry) | colours)


def from_hub(entry: Mapping[str, Any]) -> bool:
    """Tell whether the weights of a completed entry come from the hub."""
    return entry.get("weights", "").startswith("hub:")


def local_weights(entry: Mapping[str, Any]) -> str | None:
    """Return the path that an entry names as its weights, or None where they come from elsewhere."""
    weights = entry.get("weights") or "random"
    return None if weights == "random" or from_hub(entry) else weights
