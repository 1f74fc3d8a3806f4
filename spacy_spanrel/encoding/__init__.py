"""Text to tensors: word pieces, windows, batches and the encoders behind every component."""
