"""A trained model on disk and at work: safetensors beside a JSON that says what it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shest.core.errors import InputError
from shest.core.files import atomic_write, read_json, write_json
from shest.systems import uncertainty, zinb
from shest.systems.shest.training import HEADS, Fit, Settings, autocast, build_heads

FORMAT = 1
ROWS = 4096  # cells predicted at once


@dataclass
class Model:
    """An ensemble of head pairs, ready to predict.

    info : content of ``model.json``
    members : for each member, classifier and reconstructor
    mean, std : (dim,) moments that embeddings are standardised by
    """

    info: dict[str, Any]
    members: list[dict[str, torch.nn.Module]]
    mean: torch.Tensor
    std: torch.Tensor
    device: torch.device

    @property
    def genes(self) -> list[str]:
        """Genes in the order of the predicted columns."""
        return self.info["genes"]

    @property
    def classes(self) -> list[str]:
        """Types in the order of the predicted probabilities."""
        return self.info["classes"]

    @property
    def temperature(self) -> float:
        """Temperature of the type probabilities."""
        return self.info.get("temperature", 1.0)


def settings_of(info: dict[str, Any]) -> Settings:
    """Return the training settings that a model was made with."""
    return Settings.of(info["config"])


def assemble(fit: Fit, info: dict[str, Any], device: torch.device) -> Model:
    """Make a model of trained states.

    ``info`` needs ``genes``, ``classes``, ``dim`` and ``config`` (the training settings).
    """
    settings = settings_of(info)
    members = []
    for states in fit.members:
        heads = build_heads(info["dim"], len(info["classes"]), len(info["genes"]), settings)
        for name, head in heads.items():
            head.load_state_dict(states[name])
            head.to(device).eval()
        members.append(heads)
    moments = [torch.as_tensor(x, dtype=torch.float32).to(device) for x in (fit.mean, fit.std)]
    return Model(info, members, *moments, device)


def save_model(tensors: str | Path, record: str | Path, fit: Fit, info: dict[str, Any]) -> None:
    """Write the weights (``member{k}.classifier.*``, ``member{k}.reconstructor.*``, input moments) and ``info``."""
    named = {"input_mean": torch.from_numpy(fit.mean), "input_std": torch.from_numpy(fit.std)}
    for k, states in enumerate(fit.members):
        for head in HEADS:
            named |= {f"member{k}.{head}.{name}": value.contiguous() for name, value in states[head].items()}
    with atomic_write(tensors) as tmp_path:
        save_file(named, tmp_path)
    write_json(record, info | {"format": FORMAT, "members": len(fit.members)})


def load_model(tensors: str | Path, record: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model.

    Raises
    ------
    InputError
        Weights and record do not belong together, or the format is another.
    """
    info = read_json(record)
    remedy = "Train the model again"
    if info.get("format") != FORMAT:
        raise InputError(record, f"model format {info.get('format')}, not {FORMAT}", remedy)
    try:
        with safe_open(str(tensors), framework="pt") as file:
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        members = [{head: _below(held, f"member{k}.{head}.") for head in HEADS} for k in range(info["members"])]
        fit = Fit(held["input_mean"].numpy(), held["input_std"].numpy(), members)
        return assemble(fit, info, torch.device(device))
    except (KeyError, RuntimeError, OSError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(tensors, f"not the weights that {record} describes ({first})", remedy) from None


def _below(held: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in held.items() if key.startswith(prefix)}


def check_fingerprint(model: Model, fingerprint: str, path: str | Path) -> None:
    """Refuse embeddings of another encoder than the model's.

    Raises
    ------
    InputError
        The fingerprints differ.
    """
    own = model.info["fingerprint"]
    if own != fingerprint:
        raise InputError(
            path,
            f"encoded with fingerprint {fingerprint[:12]}, but the model was trained on {own[:12]}",
            "Predict with the encoder, weights and precision that the model was trained with, or train again",
        )


def _standardise(model: Model, embeddings: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.ascontiguousarray(embeddings)).to(model.device).float()
    return (x - model.mean) / model.std


def type_logits(model: Model, embeddings: np.ndarray) -> np.ndarray:
    """Type logits of every member, (n, dim) -> (members, n, classes) float32."""
    settings = settings_of(model.info)
    blocks = []
    with torch.inference_mode(), autocast(model.device, settings.precision):
        for start in range(0, max(len(embeddings), 1), ROWS):
            x = _standardise(model, embeddings[start : start + ROWS])
            blocks.append(torch.stack([heads["classifier"](x).float() for heads in model.members]).cpu().numpy())
    return np.concatenate(blocks, axis=1)


def predict_block(model: Model, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Predict types and expression of one block of cells.

    Parameters
    ----------
    model : the ensemble
    embeddings : (n, dim); memory grows with n x genes

    Returns
    -------
    dict of float32 arrays
        ``probability`` (n, classes), calibrated; ``entropy`` (n,), nats; ``disagreement`` (n,), share of members;
        ``expected`` (n, genes), counts, mean over members of (1 - pi) mu; ``aleatoric`` and ``epistemic``
        (n, genes), counts squared, see :func:`shest.systems.uncertainty.decompose`.
    """
    logits = type_logits(model, embeddings)
    probability = uncertainty.ensemble(logits, model.temperature)
    found = {
        "probability": probability,
        "entropy": uncertainty.entropy(probability),
        "disagreement": uncertainty.disagreement(logits, probability),
    } | expression_block(model, embeddings)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def expression_block(model: Model, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Expected counts and both variances, (n, genes) float32, one member at a time (Welford's update)."""
    settings, x = settings_of(model.info), _standardise(model, embeddings)
    mean = spread = noise = torch.zeros(1, device=model.device)
    with torch.inference_mode():
        for k, heads in enumerate(model.members, start=1):
            with autocast(model.device, settings.precision):
                logits = heads["reconstructor"](x)
            member_mean, member_variance = zinb.mean_variance(*logits)
            step = member_mean - mean
            mean = mean + step / k
            spread = spread + step * (member_mean - mean)
            noise = noise + (member_variance - noise) / k
    held = {"expected": mean, "aleatoric": noise, "epistemic": spread / len(model.members)}
    return {name: value.cpu().numpy() for name, value in held.items()}
