"""No image at all: the training units' shares of types, and their mean expression."""

from shest.systems.base import SystemSpec

SPEC = SystemSpec("shest.systems.mean.system:Mean", reads="nothing", units=("cells", "spots"), window_um=0.0)
