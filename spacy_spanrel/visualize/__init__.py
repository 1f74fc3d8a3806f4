"""Pictures of relations and answers for notebooks and files, and graphs of all relations in a corpus."""

from .display import render
from .graph import relation_graph, write_graph

__all__ = ["relation_graph", "render", "write_graph"]
