"""What a run says of its spots before anything is read."""

from collections.abc import Iterable, Mapping
from typing import Any

from shest.io.spot_arrays import DIAMETER_UM
from shest.tiles.patch import PatchSize


def patch_size(config: Mapping[str, Any], platforms: Iterable[str]) -> PatchSize:
    """Return what an encoder sees of a spot, the same of every sample: the largest spot of the run, or what is set.

    Parameters
    ----------
    config
        Section ``spots``.
    platforms
        Those of the samples that have spots.
    """
    side = config["patch_um"]
    if side == "auto":
        pseudo = config.get("diameter_um")
        diameters = [DIAMETER_UM.get(platform, pseudo) for platform in platforms]
        side = max((d for d in diameters if d is not None), default=max(DIAMETER_UM.values()))
    return PatchSize(float(side), config["patch_px"])
