"""What learns: one folder a system, and base.py, which says what a system is."""
