"""What is learnt from: annotation, split, refinement, training sets."""
