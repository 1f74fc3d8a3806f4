"""Hugging Face checkpoints: loading them by name, and rebuilding their networks from saved files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Errors, Warnings, warn
from .bert import build_bert, read_bert_config
from .embeddings import replace_large_embeddings
from .frozen import FrozenLayers, keep_lowest_layers
from .graph import GRAPH_FILE, GraphModule
from .network import PieceNetwork
from .packed import pack_layers
from .pieces import N_CASINGS, PieceTokenizer, tokenizer_from_files, tokenizer_to_files
from .shim import check_finite, library_errors

_DEFAULT_MAX_LENGTH = 512

# The class of transformers that reads a checkpoint: the encoder alone, or with the head of a task.
Kind = Literal["AutoModel", "AutoModelForSequenceClassification", "AutoModelForQuestionAnswering"]


class HFModule(PieceNetwork):
    """A Hugging Face network and its tokenizer.

    transformer (PreTrainedModel | Bert | BertForAnswers): The network, with or without the head of a
        task.
    tokenizer (PreTrainedTokenizerFast): Its tokenizer.
    name (str): The name of the checkpoint in messages.
    casing (bool): Add an embedding of the letter case of each piece (`piece_casing`) to the input, so
        that encoders of lower-cased text can tell names from other words. It starts at zero: nothing
        changes before training. With frozen layers it is added above them.
    frozen_layers (int): Number of the lowest layers that are not trained, nor are the embeddings
        below them; 0 to train all.
    RAISES (ValueError): If the layers cannot be frozen.

    takes_types (bool): Whether the network has segments.
    """

    def __init__(
        self,
        transformer: nn.Module,
        tokenizer: Any,
        name: str,
        casing: bool = False,
        frozen_layers: int = 0,
    ):
        super().__init__()
        self.transformer = transformer
        self.pieces = PieceTokenizer(tokenizer, name)
        accepted = inspect.signature(type(transformer).forward).parameters
        self.takes_types = "token_type_ids" in accepted
        # No component uses the output of a pooler, so nothing would train one.
        if "add_pooling_layer" in inspect.signature(type(transformer).__init__).parameters:
            transformer.pooler = None  # type: ignore[assignment]
        replace_large_embeddings(transformer)
        self.frozen = FrozenLayers(transformer, frozen_layers, name) if frozen_layers else None
        self._hidden: Tensor | None = None
        self._packed = pack_layers(transformer)
        self.casing: nn.Embedding | None = None
        if casing:
            # The embeddings of some networks (ELECTRA) are narrower than their layers.
            embeddings = transformer.get_input_embeddings()  # type: ignore[operator]
            width = embeddings.weight.shape[1] if self.frozen is None else self.width
            self.casing = nn.Embedding(N_CASINGS, width)
            nn.init.zeros_(self.casing.weight)

    @property
    def width(self) -> int:
        return int(self.transformer.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def max_length(self) -> int:
        """The largest number of pieces (special tokens included) that network and tokenizer take."""
        limits = [self.pieces.max_length, _position_limit(self.transformer)]
        return min([limit for limit in limits if limit] or [_DEFAULT_MAX_LENGTH])

    @property
    def reads_casing(self) -> bool:
        return self.casing is not None

    def outputs(
        self,
        ids: Tensor,
        mask: Tensor,
        casing: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Any:
        settings = self._masks(mask, types)
        added = None if self.casing is None else self.casing(casing)
        above = None if self.frozen is None else added
        if self._packed is not None and self._predicts_on_cpu(ids):
            # The dtype in which a linear layer computes here, be it autocast's or that of its weights.
            dtype = F.linear(torch.zeros(1, 1), torch.zeros(1, 1)).dtype
            border = 0 if self.frozen is None else self.frozen.n_layers
            with self._packed.packing(mask, dtype, border, above):
                return self._run(ids, None if self.frozen else added, settings)
        if self.frozen is not None:
            with self.frozen.border(self._hidden, added):
                return self.transformer(input_ids=ids, **settings)
        return self._run(ids, added, settings)

    def _run(self, ids: Tensor, added: Tensor | None, settings: dict[str, Tensor]) -> Any:
        """Run the network. added (Tensor | None): Vectors to add to its input embeddings."""
        if added is None:
            return self.transformer(input_ids=ids, **settings)
        embedded = self.transformer.get_input_embeddings()(ids)  # type: ignore[operator]
        return self.transformer(inputs_embeds=embedded + added, **settings)

    def _predicts_on_cpu(self, ids: Tensor) -> bool:
        """Check whether the network predicts on the CPU."""
        on_cpu = ids.device.type == "cpu"
        learns = self.training or torch.is_grad_enabled() or self._hidden is not None
        return on_cpu and not learns

    def frozen_output(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Run the frozen layers alone.

        ids, mask, types: As in `outputs`.
        RETURNS (Tensor): Their output. *Shape:* ``(batch, length, width)``
        """
        assert self.frozen is not None
        settings = self._masks(mask, types)
        return self.frozen.output(lambda: self.transformer(input_ids=ids, **settings))

    @contextmanager
    def above(self, hidden: Tensor | None) -> Iterator[None]:
        """Skip the frozen layers in this context: their output is known.

        hidden (Tensor | None): Their output for the rows that the network is given; None to run
            them. *Shape:* ``(batch, length, width)``
        """
        self._hidden = hidden
        try:
            yield
        finally:
            self._hidden = None

    def _masks(self, mask: Tensor, types: Tensor | None) -> dict[str, Tensor]:
        """Return what the network is told about its pieces, by the names of transformers."""
        segments = {} if types is None or not self.takes_types else {"token_type_ids": types}
        return {"attention_mask": mask, **segments}


def _position_limit(transformer: nn.Module) -> int | None:
    config = transformer.config
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in transformer.named_modules():
        # RoBERTa and its relatives count positions from padding_idx + 1 on.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            padding = module.padding_idx
            limit = limit if padding is None else min(limit, module.num_embeddings - padding - 1)
    return limit


def locate_checkpoint(name: str) -> str:
    """Turn the name of a checkpoint into a folder, or into a name of the Hugging Face hub.

    name (str): A folder, the import name of an installed package that carries a model (in its
        folder or in `model/` below), or a name of the hub.
    RETURNS (str): A path or name for `from_pretrained`. A name that is neither a folder nor a package
        is returned as it is.
    """
    if Path(name).is_dir() or "/" in name or "." in name:
        return name
    spec = find_spec(name) if name.isidentifier() else None
    for package in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(package), Path(package) / "model"):
            if (folder / "config.json").is_file():
                return str(folder)
    return name


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the warnings and progress bars of transformers, but not its errors."""
    from transformers import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_checkpoint(
    name: str,
    tokenizer: str | None = None,
    dropout: float | None = None,
    casing: bool = False,
    *,
    layers: int | None = None,
    frozen_layers: int = 0,
    attention_dropout: float | None = None,
    kind: Kind = "AutoModel",
    n_labels: int | None = None,
    fresh_head: bool = False,
) -> tuple[HFModule, dict[str, Any], dict[str, bytes]]:
    """Load a pretrained network and its tokenizer.

    name (str): The checkpoint, as in `locate_checkpoint`.
    tokenizer (str | None): Name of another checkpoint that has the tokenizer; None if this one has it.
    dropout (float | None): Dropout inside the network; None for that of the checkpoint.
    layers (int | None): Number of the lowest layers, which alone are kept; None for all.
    casing (bool), frozen_layers (int): As in `HFModule`.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. Torch has
        no fast kernel for it on the CPU: with rows of a few hundred pieces, 0.0 more than halves the
        time of training.
    kind (str): Class of transformers that reads the checkpoint.
    n_labels (int | None): Number of classes of the head, if any; None for that of the checkpoint.
    fresh_head (bool): Start with random weights of the head, even if the checkpoint has some.
    RETURNS: The module, and the settings and files from which `build_hf_module` builds it again.
    RAISES (OSError): If there is no such checkpoint. The message lists the kinds of names.
    RAISES (ValueError): If the head is missing or has another number of classes, or there are no such layers.
    """
    import transformers

    check_config(name)
    settings = _dropout_settings(name, dropout, attention_dropout)
    if n_labels is not None:
        settings["num_labels"] = n_labels
    if fresh_head:
        settings["ignore_mismatched_sizes"] = True
    # The warnings are about new and missing weights: intended, or an error below.
    with reading(name, n_labels), quiet_transformers():
        network, info = getattr(transformers, kind).from_pretrained(
            locate_checkpoint(name), output_loading_info=True, trust_remote_code=False, **settings
        )
    check_finite(network.named_parameters())
    if layers is not None:
        keep_lowest_layers(network, layers, name)
    with reading(name):
        fast_tokenizer = load_tokenizer(tokenizer or name)
        files = hf_files(network, fast_tokenizer)
    if kind != "AutoModel" and not fresh_head and info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ValueError(Errors.E210.format(name=name, kind=kind, missing=missing))
    if fresh_head:
        _draw_head(network)
    module = HFModule(network.float(), fast_tokenizer, name, casing, frozen_layers)
    if module.frozen is not None:
        _check_frozen(module, name)
    return module, hf_settings(module, name, kind), files


def _check_frozen(module: HFModule, name: str) -> None:
    """Refuse to freeze layers that depend on their place in the network.

    module (HFModule): A module with frozen layers.
    name (str): The name of the checkpoint.
    RAISES (ValueError): If the other layers by themselves give another output.
    """
    row = [*module.pieces.prefix, *module.pieces(["a b c"])[0].ids.tolist(), *module.pieces.suffix]
    ids = torch.tensor([row])
    mask, casing = torch.ones_like(ids), torch.zeros_like(ids)
    module.eval()
    with torch.no_grad():
        expected = module(ids, mask, casing)
        with module.above(module.frozen_output(ids, mask)):
            output = module(ids, mask, casing)
    if output.shape != expected.shape or not torch.allclose(output, expected, atol=1e-4):
        raise ValueError(Errors.E223.format(name=name))


@contextmanager
def reading(name: str, n_labels: int | None = None) -> Iterator[None]:
    """Turn any error of a library while it reads a checkpoint into one that names the checkpoint.

    name (str): Name or path of the checkpoint.
    n_labels (int | None): The number of classes that the head should have.
    RAISES (OSError): If the checkpoint cannot be read. The message lists the kinds of names.
    RAISES (ValueError): If its head has another number of classes.
    """

    def explain(error: BaseException) -> Exception:
        text = str(error)
        if isinstance(error, RuntimeError) and ("size mismatch" in text or "mismatched" in text):
            return ValueError(Errors.E211.format(name=name, n_labels=n_labels, error=error))
        if not isinstance(error, OSError | ValueError):
            # The message of an unexpected error may be a mere key ('added_tokens').
            text = f"{type(error).__name__}: {text}"
        return OSError(Errors.E202.format(name=name, error=text))

    with library_errors(explain):
        yield


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer, and keep upper case if its vocabulary has upper-case letters.

    For a BERT checkpoint without `tokenizer_config.json` transformers lower-cases all text, so that
    most of a cased vocabulary is never used. If no setting decides, the vocabulary does.

    name (str): The checkpoint, as in `locate_checkpoint`.
    RETURNS (PreTrainedTokenizerBase): A fast tokenizer if there is one.
    RAISES (OSError, ValueError): If there is no such tokenizer.
    """
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    source = locate_checkpoint(name)
    tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    # If there are no files, transformers 5 makes a tokenizer with an empty vocabulary.
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, "▁"}:
        raise OSError(Errors.E217.format(name=name))
    if not _wastes_case(tokenizer):
        return tokenizer
    if "do_lower_case" not in get_tokenizer_config(source):
        cased = AutoTokenizer.from_pretrained(
            source, use_fast=True, do_lower_case=False, trust_remote_code=False
        )
        if not _wastes_case(cased):
            return cased
    warn(Warnings.W108.format(name=name))
    return tokenizer


def _wastes_case(tokenizer: Any) -> bool:
    """Check whether a tokenizer lower-cases text although its vocabulary has upper-case letters."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is None:
        return False
    if backend.normalizer.normalize_str("A") != "a":
        return False
    special = set(tokenizer.all_special_tokens)
    return any(
        entry != entry.lower() and entry not in special and not entry.startswith(("[", "<"))
        for entry in backend.get_vocab(with_added_tokens=False)
    )


def read_config(name: str) -> Any:
    """Read the configuration of a checkpoint, without its weights.

    name (str): The checkpoint, as in `locate_checkpoint`.
    RETURNS (PretrainedConfig): The configuration.
    RAISES (OSError): If there is no such checkpoint.
    """
    from transformers import AutoConfig

    with reading(name):
        return AutoConfig.from_pretrained(locate_checkpoint(name), trust_remote_code=False)


# Settings with which a checkpoint can name code of the hub that versions before 5.3 of transformers
# download and run, whatever trust_remote_code says: CVE-2026-4372.
_KERNELS = ("attn_implementation", "experts_implementation")


def check_config(name: str) -> None:
    """Refuse a checkpoint whose configuration names code to run. To be called before it is loaded.

    name (str): The checkpoint, as in `locate_checkpoint`.
    RAISES (OSError): If there is no such checkpoint.
    RAISES (ValueError): If it names code.
    """
    from transformers import PretrainedConfig

    with reading(name):
        settings, _ = PretrainedConfig.get_config_dict(locate_checkpoint(name))
    _refuse_code(settings, name)


def _refuse_code(settings: Any, name: str) -> None:
    """Look for a name of the hub among the settings of a config.json and of the configurations in it."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if any(kernel in key for kernel in _KERNELS) and "/" in json.dumps(value):
            raise ValueError(Errors.E239.format(name=name, key=key, value=value))
        _refuse_code(value, name)


def head_names(network: nn.Module) -> list[str]:
    """Return the names of the submodules that form the head of a Hugging Face network.

    network (PreTrainedModel): The network.
    RETURNS (list[str]): All submodules but the encoder; none for an encoder without a head.
    """
    base = getattr(network, "base_model_prefix", "")
    return [name for name, _ in network.named_children() if hasattr(network, base) and name != base]


def _draw_head(network: nn.Module) -> None:
    """Give all linear layers of a head new random weights."""
    std = getattr(network.config, "initializer_range", 0.02)
    for name in head_names(network):
        for layer in network.get_submodule(name).modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


# Names of the dropout rates in the configurations of all kinds of networks.
_DROPOUT = (
    "hidden_dropout_prob",
    "dropout",
    "embedding_dropout",
    "mlp_dropout",
    "classifier_dropout",
    "seq_classif_dropout",
    "qa_dropout",
)
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def _dropout_settings(
    name: str, dropout: float | None, attention_dropout: float | None
) -> dict[str, float]:
    """Return the dropout rates that the configuration of a checkpoint has, with new values."""
    if attention_dropout is None:
        attention_dropout = dropout
    if attention_dropout is None:
        return {}
    rates = {
        **dict.fromkeys(_DROPOUT, dropout),
        **dict.fromkeys(_ATTENTION_DROPOUT, attention_dropout),
    }
    config = read_config(name)
    return {key: rate for key, rate in rates.items() if rate is not None and hasattr(config, key)}


def hf_settings(module: HFModule, name: str, kind: Kind = "AutoModel") -> dict[str, Any]:
    """Return the settings from which `build_hf_module` builds a module again.

    module (HFModule): The module.
    name (str): The checkpoint, for messages.
    kind (str): Class of transformers for the network.
    RETURNS (dict[str, Any]): The settings.
    """
    frozen_layers = 0 if module.frozen is None else module.frozen.n_layers
    return {
        "name": name,
        "casing": module.casing is not None,
        "kind": kind,
        "frozen_layers": frozen_layers,
    }


def hf_files(network: Any, tokenizer: Any) -> dict[str, bytes]:
    """Return the files from which `build_hf_module` builds a module again, without the weights.

    network (PreTrainedModel), tokenizer (PreTrainedTokenizerFast): As in `HFModule`.
    RETURNS (dict[str, bytes]): Contents of the files by name.
    """
    return {**tokenizer_to_files(tokenizer), **_config_file(network)}


# Settings by their names in transformers 4, and the places in which transformers 5 writes them. Without
# the old names transformers 4 would silently use its defaults.
_OLDER_NAMES = {
    "rope_theta": ("rope_parameters", "rope_theta"),
    "global_rope_theta": ("rope_parameters", "full_attention", "rope_theta"),
    "local_rope_theta": ("rope_parameters", "sliding_attention", "rope_theta"),
}


def _config_file(network: Any) -> dict[str, bytes]:
    """Return the configuration file of a network, with the same meaning in transformers 4 and 5."""
    settings = json.loads(network.config.to_json_string())
    for name, path in _OLDER_NAMES.items():
        value: Any = settings
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            settings.setdefault(name, value)
    return {"config.json": json.dumps(settings, indent=2, ensure_ascii=False).encode("utf-8")}


def build_hf_module(cfg: dict[str, Any], files: dict[str, bytes]) -> PieceNetwork:
    """Build a network without its weights from the settings and files of a saved pipeline.

    cfg (dict[str, Any]): The settings, from `hf_settings` or, for a graph, `convert`.
    files (dict[str, bytes]): Contents of the files by name, from `hf_files` or `convert`.
    RETURNS (PieceNetwork): The network and its tokenizer: a `GraphModule` if there is a graph, which
        needs no transformers, or else an `HFModule` with random weights.
    """
    if "graph" in cfg:
        pieces = PieceTokenizer(tokenizer_from_files(files), cfg["name"])
        return GraphModule(pieces, cfg["graph"], files[GRAPH_FILE])
    # Built in memory, so that loading a pipeline writes no file and runs no code of a checkpoint.
    settings = json.loads(files["config.json"])
    _refuse_code(settings, cfg["name"])
    kind = cfg.get("kind", "AutoModel")
    config = read_bert_config(settings)
    network = None if config is None else build_bert(config, kind)
    if network is None:
        network = build_transformer(settings, kind)
    return HFModule(
        network.float(),
        tokenizer_from_files(files),
        cfg["name"],
        cfg["casing"],
        cfg.get("frozen_layers", 0),
    )


def build_transformer(settings: dict[str, Any], kind: Kind = "AutoModel") -> Any:
    """Build a network of transformers with random weights.

    settings (dict[str, Any]): The contents of its `config.json`.
    kind (str): Class of transformers for the network.
    RETURNS (PreTrainedModel): The network.
    """
    import transformers

    config = transformers.CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    auto = getattr(transformers, kind)
    # `from_config` finds the same class, but imports the configurations of all kinds of networks first.
    network_class = auto._model_mapping[type(config)]
    if isinstance(network_class, type):
        return network_class(config)
    # A few kinds have several classes.
    return auto.from_config(config, trust_remote_code=False)


def resize_embeddings(module: HFModule, n_new: int) -> tuple[int, dict[str, bytes]]:
    """Add rows for new symbols to the input embeddings of a network.

    The tokenizer stays as it is, so no text can contain a new symbol.

    module (HFModule): The network.
    n_new (int): Number of new rows.
    RETURNS (tuple[int, dict[str, bytes]]): Index of the first new row, and the changed `config.json`.
    """
    network: Any = module.transformer
    first = int(network.get_input_embeddings().weight.shape[0])
    with quiet_transformers():
        network.resize_token_embeddings(first + n_new)
    replace_large_embeddings(network)
    return first, _config_file(network)
