"""A run as a whole: config, sample sheet, checks of its input, estimates, what jobs ask for."""
