"""Numbers about training data, and advice about what components can learn from it."""
