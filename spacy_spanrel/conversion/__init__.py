"""Pipelines that become other pipelines and predict the same."""
