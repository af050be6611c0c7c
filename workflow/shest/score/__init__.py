"""How good a prediction is: metrics, evaluation, other programs' labels."""
