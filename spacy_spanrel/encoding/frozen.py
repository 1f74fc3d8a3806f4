"""Lower layers that are not trained: computed once for each row, and skipped from then on.

The lower layers of a pretrained encoder hardly change in training. If they are frozen, their output
for a row of pieces is the same in every epoch, so it is kept, and each further epoch pays for the
layers above alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from ..errors import Errors

# Memory for the kept rows of one network, in bytes.
ROWS_LIMIT = 512 * 1024**2

Row = TypeVar("Row")


class FrozenLayers:
    """The embeddings and the lowest layers of a Hugging Face network, which are not trained.

    network (PreTrainedModel): The network, with or without the head of a task.
    n_layers (int): Number of frozen layers, at least 1.
    name (str): The name of the checkpoint in messages.
    RAISES (ValueError): If the network has no list of layers, or if no layer would be trained.
    """

    def __init__(self, network: nn.Module, n_layers: int, name: str):
        self.n_layers = n_layers
        self.rows: KeptRows[Tensor] = KeptRows(ROWS_LIMIT)
        self._parent, self._attribute = _find_layers(network, name)
        total = len(self._layers)
        if n_layers >= total:
            raise ValueError(Errors.E222.format(frozen=n_layers, name=name, total=total))

    @property
    def _layers(self) -> nn.ModuleList:
        layers = getattr(self._parent, self._attribute)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @contextmanager
    def border(self, hidden: Tensor | None = None, added: Tensor | None = None) -> Iterator[None]:
        """Change the input of the first trained layer while the network runs in this context.

        hidden (Tensor | None): The output of the frozen layers; they are skipped. None to run them.
            *Shape:* ``(batch, length, width)``
        added (Tensor | None): Vectors to add to that output. *Shape:* ``(batch, length, width)``
        """

        def change(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            output = _first_input(args, kwargs) if hidden is None else hidden
            output = output if added is None else output + added
            if args:
                return (output, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": output}

        layers = self._layers
        hook = layers[self.n_layers].register_forward_pre_hook(change, with_kwargs=True)
        if hidden is not None:
            setattr(self._parent, self._attribute, layers[self.n_layers :])
        try:
            yield
        finally:
            setattr(self._parent, self._attribute, layers)
            hook.remove()

    def output(self, run: Callable[[], Any]) -> Tensor:
        """Run the network as far as the border.

        run (Callable[[], Any]): Function that runs the network on padded rows.
        RETURNS (Tensor): The output of the frozen layers. *Shape:* ``(batch, length, width)``
        """

        def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            raise _BorderReached(_first_input(args, kwargs))

        hook = self._layers[self.n_layers].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            run()
        except _BorderReached as reached:
            return reached.hidden
        finally:
            hook.remove()
        raise AssertionError("the network did not run its layers")


class _BorderReached(Exception):
    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def keep_lowest_layers(network: nn.Module, n_layers: int, name: str) -> None:
    """Remove all layers of a network but the lowest ones, and change its configuration likewise.

    network (PreTrainedModel): The network, with or without the head of a task.
    n_layers (int): Number of layers to keep.
    name (str): The name of the checkpoint in messages.
    RAISES (ValueError): If the network has no list of layers, or fewer layers.
    """
    parent, attribute = _find_layers(network, name)
    layers: Any = getattr(parent, attribute)
    if not 0 < n_layers <= len(layers):
        raise ValueError(Errors.E244.format(layers=n_layers, name=name, total=len(layers)))
    setattr(parent, attribute, layers[:n_layers])
    config: Any = network.config
    config.num_hidden_layers = n_layers
    if getattr(config, "layer_types", None):  # ModernBERT
        config.layer_types = config.layer_types[:n_layers]


def _find_layers(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module of a network that has its layers, and the name of their list.

    RAISES (ValueError): If there is no such list, because the layers share their weights, say.
    """
    total = getattr(network.config, "num_hidden_layers", None)
    for path, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == total:
            parent, _, attribute = path.rpartition(".")
            return network.get_submodule(parent), attribute
    raise ValueError(Errors.E223.format(name=name))


class KeptRows(Generic[Row]):
    """Values by key, in bounded memory.

    Training comes back to all rows in turn, so the least recently used one would be dropped just
    before it is needed. When memory is full, rows drawn at random make room, which keeps a fair part
    of them even then.

    limit (int): Largest total size of the values, in bytes.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.size = 0
        self._random = Random(0)
        self._rows: dict[bytes, tuple[Row, int]] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> Row | None:
        """Return the value of a key, or None."""
        return self._rows.get(key, (None, 0))[0]

    def add(self, key: bytes, row: Row, size: int) -> None:
        """Keep a value of so many bytes under a new key."""
        self._rows[key] = (row, size)
        self._keys.append(key)
        self.size += size
        while self.size > self.limit:
            i = self._random.randrange(len(self._keys))
            self._keys[i], self._keys[-1] = self._keys[-1], self._keys[i]
            self.size -= self._rows.pop(self._keys.pop())[1]
