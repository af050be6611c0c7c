"""The arrays that spots are measured on. Without imports: every job asks for them."""

DIAMETER_UM = {"st": 100.0, "visium": 55.0}
STEP_UM = {"st": (200.0, 200.0), "visium": (50.0, 50.0 * 3**0.5)}
"""µm from one array column, and one array row, to the next; a Visium row has every other column."""
PLATFORMS = tuple(DIAMETER_UM)
