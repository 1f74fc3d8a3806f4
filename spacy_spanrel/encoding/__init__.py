"""From texts to tensors: subword pieces, windows, batches, and the encoders of all components."""
