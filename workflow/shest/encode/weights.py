"""Weights of encoders: found in a folder, in the hub's cache or on the hub, and loaded safely."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from shest.core.errors import InputError
from shest.encode.spec import IMAGENET, EncoderSpec

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(spec: EncoderSpec) -> Path | None:
    """Return the local file with the weights, fetched from the hub if its cache lacks them; None for random ones.

    Raises
    ------
    InputError
        The file is not there, cannot be fetched, or needs a token; says what to fetch and where to put it.
    """
    if spec.weights == "random":
        return None
    if spec.weights.startswith("hub:"):
        return _from_hub(spec)
    path = Path(spec.weights).expanduser()
    if path.is_dir():
        present = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not present:
            raise InputError(path, "no model.safetensors in this folder", f"Put the weights of {spec.name} there")
        return present[0]
    if not path.is_file():
        remedy = "Set the entry's weights to a folder with model.safetensors, a file, or hub:OWNER/NAME"
        raise InputError(path, f"the weights of {spec.name} are not there", remedy)
    return path


def cached_weights(repository: str) -> Path | None:
    """Return the weights of a hub repository in the hub's local cache, or None; nothing is fetched."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    present = [path for name in WEIGHT_FILES for path in sorted(snapshots.glob(f"*/{name}")) if path.is_file()]
    return present[0] if present else None


def manual_hint(spec: EncoderSpec) -> str:
    """Say how to do without the hub."""
    repository = spec.weights.removeprefix("hub:")
    return (
        f"Fetch model.safetensors and config.json of {repository} by hand, put them into one folder and set "
        f"the weights of encoder {spec.name} to it"
    )


def _from_hub(spec: EncoderSpec) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    repository, by_hand = spec.weights.removeprefix("hub:"), manual_hint(spec)
    for name in WEIGHT_FILES:
        try:
            return Path(hf_hub_download(repository, name, revision=spec.revision))
        except GatedRepoError:
            raise InputError(
                spec.weights,
                "access to these weights needs a licence and a token",
                f"Accept the licence on the hub and set HF_TOKEN. Or: {by_hand}",
            ) from None
        except LocalEntryNotFoundError:
            raise InputError(
                spec.weights, "the hub cannot be reached and its cache does not hold the weights", by_hand
            ) from None
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise InputError(
                spec.weights, f"the weights cannot be fetched ({type(error).__name__}: {error})", by_hand
            ) from None
    raise InputError(spec.weights, f"the repository has none of {', '.join(WEIGHT_FILES)}", by_hand)


def with_colours(spec: EncoderSpec, weights: Path | None) -> EncoderSpec:
    """Fill in mean and std where the spec has none: of the config.json beside local weights, or else ImageNet's."""
    settings = weights.parent / "config.json" if weights else None
    stored = json.loads(settings.read_text()) if settings is not None and settings.is_file() else {}
    stored = IMAGENET | stored.get("pretrained_cfg", stored)
    return replace(spec, **{key: tuple(stored[key]) for key in IMAGENET if getattr(spec, key) is None})


def load_weights(model: Any, weights: Path, spec: EncoderSpec) -> None:
    """Load the weights into a timm model, but for a classifier's head that the model does not have.

    Raises
    ------
    InputError
        The file cannot be read without running code of its own, or does not fit the architecture.
    """
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
            weights, f"not the weights of {spec.architecture}: {first}", f"Use the weights published for {spec.name}"
        ) from None
