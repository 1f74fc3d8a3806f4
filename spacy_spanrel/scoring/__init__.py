"""Scores of entities, relations and answers, equal to those of the official programs."""
