"""Readers, optimizer and losses for training."""
