"""Networks in prediction by ONNX Runtime: an ONNX graph, and its weights as torch tensors.

The graph is a small file. Its weights stand beside it, so that they are saved, checked and loaded like
those of any other network, with one copy in memory: ONNX Runtime reads them where they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from thinc.api import Model
from torch import Tensor, nn

from ..errors import Errors
from .network import PieceNetwork
from .pieces import PieceTokenizer

# Name of the graph among the files of a network.
GRAPH_FILE = "network.onnx"

T = TypeVar("T")
R = TypeVar("R")

# Sessions of processes from which this one was forked. To delete one would wait for its threads, which
# do not exist here.
_INHERITED: list[Any] = []


def import_onnxruntime() -> Any:
    """Import ONNX Runtime. RAISES (ImportError): If it is not installed; says how to install it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(Errors.E242.format(package="onnxruntime")) from error
    return onnxruntime


class GraphModule(PieceNetwork):
    """A network that ONNX Runtime computes, on the CPU.

    pieces (PieceTokenizer): The tokenizer.
    settings (Mapping[str, Any]): "width", "max_length", "casing" (whether the network reads the letter
        case of pieces), and "weights", a table of [dtype, shape] by the names of the weights.
    graph (bytes): The ONNX graph, whose weights are marked as external.
    RAISES (ImportError): If ONNX Runtime is not installed.
    """

    def __init__(self, pieces: PieceTokenizer, settings: Mapping[str, Any], graph: bytes):
        super().__init__()
        import_onnxruntime()
        self.pieces = pieces
        self._settings = dict(settings)
        # The graph, and, if it is not None, the inputs of all batches that were computed.
        self.data = graph
        self.seen: list[dict[str, Any]] | None = None
        # Sessions by process and number of threads.
        self._sessions: dict[tuple[int, int], Any] = {}
        for name, (dtype, shape) in settings["weights"].items():
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            self.register_parameter(name, nn.Parameter(weight, requires_grad=False))

    @property
    def width(self) -> int:
        return int(self._settings["width"])

    @property
    def max_length(self) -> int:
        return int(self._settings["max_length"])

    @property
    def reads_casing(self) -> bool:
        return bool(self._settings["casing"])

    def outputs(
        self,
        ids: Tensor,
        mask: Tensor,
        casing: Tensor | None = None,
        types: Tensor | None = None,
    ) -> dict[str, Tensor]:
        session = self.session
        rows = {"ids": ids, "mask": mask, "casing": casing, "types": types}
        inputs = {}
        for name in (item.name for item in session.get_inputs()):
            values = rows[name]
            # Segments: 0 is the default of all networks.
            inputs[name] = (torch.zeros_like(ids) if values is None else values).cpu().numpy()
        if self.seen is not None:
            self.seen.append(inputs)
        names = [item.name for item in session.get_outputs()]
        outputs = zip(names, session.run(None, inputs), strict=True)
        return {name: torch.from_numpy(array).to(ids.device) for name, array in outputs}

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call a function that runs the graph for each of several items, in as many threads as torch has.

        ONNX Runtime divides some operations among its threads; this divides all of them. In the meantime
        torch computes in one thread: its threads wait for work by spinning, for milliseconds, and would
        take the cores from those that have work.

        function (Callable): Called with an item, without recording gradients.
        items (Iterable): The items.
        RETURNS (list): The results, in order.
        """
        items, n_threads = list(items), torch.get_num_threads()
        if n_threads == 1 or len(items) == 1 or self.seen is not None:
            return [function(item) for item in items]
        torch.set_num_threads(1)
        try:
            self.session  # noqa: B018 (made before there are threads)
            with ThreadPoolExecutor(min(n_threads, len(items))) as pool:
                return list(pool.map(torch.no_grad()(function), items))
        finally:
            torch.set_num_threads(n_threads)

    @property
    def session(self) -> Any:
        """The session that computes, with as many threads as torch has. A forked process makes sessions
        of its own: threads do not survive a fork."""
        key = (os.getpid(), torch.get_num_threads())
        if key not in self._sessions:
            for other in [other for other in self._sessions if other[0] != key[0]]:
                _INHERITED.append(self._sessions.pop(other))
            weights = {name: weight.detach().numpy() for name, weight in self.named_parameters()}
            self._sessions[key] = make_session(self.data, weights, key[1])
        return self._sessions[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphModule:
        # The weights stay where ONNX Runtime reads them, and in the precision of the graph.
        return self


def graph_of(model: Model[Any, Any]) -> GraphModule:
    """Return the ONNX graph that computes a node of a model. model (Model): The node."""
    modules = (module for shim in model.shims for module in shim._model.modules())
    return next(module for module in modules if isinstance(module, GraphModule))


def make_session(graph: bytes, weights: Mapping[str, Any], n_threads: int) -> Any:
    """Prepare ONNX Runtime to compute a graph on the CPU.

    graph (bytes): The graph.
    weights (Mapping[str, array]): Its external weights. They must live as long as the session.
    n_threads (int): Number of threads.
    RETURNS (InferenceSession): The session.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    # Threads that wait for work by spinning would take the cores from torch's threads, which compute
    # the heads, and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(
        graph,
        options,
        providers=["CPUExecutionProvider"],
        # Slower than what it fuses; see `export`.
        disabled_optimizers=["SkipLayerNormFusion"],
    )
