"""The device that a job uses; one that was given a GPU looks for it before it does anything else."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shest.core import console
from shest.core.errors import InputError

if TYPE_CHECKING:
    import torch

REMEDY = (
    "Ask by the flag that this site uses (gpu: 1 or gres: gpu:1 in the profile), in a partition that has GPUs, and "
    "see what nvidia-smi says in such a job; without these lines the job runs on the CPU"
)


def device() -> "torch.device":
    """Return the one device that a job uses: the first visible GPU, else the CPU."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def asked_for(resources: Mapping[str, Any]) -> bool:
    """Say whether a job's resources hold a GPU: ``gpu`` above 0, or ``gres`` that names one."""
    return bool(resources.get("gpu")) or str(resources.get("gres") or "").startswith("gpu")


def check(resources: Mapping[str, Any]) -> str | None:
    """Find the GPU that was asked for and log its name; None where none was asked for.

    Raises
    ------
    InputError
        torch sees no GPU.
    """
    if not asked_for(resources):
        return None
    import torch

    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        facts = f"CUDA_VISIBLE_DEVICES {visible}, torch {torch.__version__} {built}"
        job = os.environ.get("SLURM_JOB_ID")
        host = f"job {job} on {os.uname().nodename}" if job else os.uname().nodename
        raise InputError(host, f"a GPU was asked for and torch sees none ({facts})", REMEDY)
    gpu = torch.cuda.get_device_properties(0)
    console.log.info(f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    return gpu.name
