"""Hugging Face checkpoints as torch modules: found by name, loaded, made again from plain data."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import Errors, Warnings, warn
from .pieces import N_CASINGS, PieceTokenizer, tokenizer_from_files, tokenizer_to_files
from .shim import check_finite, library_errors

_DEFAULT_MAX_LENGTH = 512

# What a checkpoint is read as: the encoder alone, or with the head of a task.
Kind = Literal["AutoModel", "AutoModelForSequenceClassification", "AutoModelForQuestionAnswering"]


class HFModule(nn.Module):
    """A Hugging Face network and its tokenizer.

    transformer (PreTrainedModel): The network, with or without the head of a task.
    tokenizer (PreTrainedTokenizerFast): Its tokenizer.
    name (str): For messages.
    casing (bool): Whether the network is told the letter case of each piece (`piece_casing`), by an
        embedding that is added to its input. It starts at zero, so that nothing changes before
        training. Gives encoders of lower-cased text back what names look like.
    """

    def __init__(self, transformer: nn.Module, tokenizer: Any, name: str, casing: bool = False):
        super().__init__()
        self.transformer = transformer
        self.pieces = PieceTokenizer(tokenizer, name)
        # Heads here use the vectors of pieces; a pooler would be trained by nothing.
        if "add_pooling_layer" in inspect.signature(type(transformer).__init__).parameters:
            transformer.pooler = None  # type: ignore[assignment]
        self.casing: nn.Embedding | None = None
        if casing:
            width = transformer.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
            self.casing = nn.Embedding(N_CASINGS, width)
            nn.init.zeros_(self.casing.weight)

    @property
    def width(self) -> int:
        return int(self.transformer.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def max_length(self) -> int:
        """Pieces (special tokens included) that both the network and the tokenizer take."""
        limits = [self.pieces.max_length, _position_limit(self.transformer)]
        return min([limit for limit in limits if limit] or [_DEFAULT_MAX_LENGTH])

    def outputs(
        self,
        ids: Tensor,
        mask: Tensor,
        casing: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Any:
        """Run the network on padded rows.

        ids (Tensor): Piece ids, int64. *Shape:* ``(batch, length)``
        mask (Tensor): 1 for pieces, 0 for padding, int64. *Shape:* ``(batch, length)``
        casing (Tensor | None): Letter case of each piece, int64, where the network is told it.
            *Shape:* ``(batch, length)``
        types (Tensor | None): Segment ids, int64; None for the network's own default.
            *Shape:* ``(batch, length)``
        RETURNS (ModelOutput): As transformers defines it for this network.
        """
        more = {} if types is None else {"token_type_ids": types}
        if self.casing is None:
            return self.transformer(input_ids=ids, attention_mask=mask, **more)
        embedded = self.transformer.get_input_embeddings()(ids)  # type: ignore[operator]
        embedded = embedded + self.casing(casing)
        return self.transformer(inputs_embeds=embedded, attention_mask=mask, **more)

    def forward(self, ids: Tensor, mask: Tensor, casing: Tensor | None = None) -> Tensor:
        """Return the first output of the network: hidden states, or the logits of a task.

        Arguments as in `outputs`.
        RETURNS (Tensor): float32. *Shape:* ``(batch, length, width)`` for an encoder
        """
        first: Tensor = self.outputs(ids, mask, casing)[0]
        return first.float()


def _position_limit(transformer: nn.Module) -> int | None:
    config = transformer.config
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in transformer.named_modules():
        # RoBERTa and its kin count positions from padding_idx + 1 on.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            padding = module.padding_idx
            limit = limit if padding is None else min(limit, module.num_embeddings - padding - 1)
    return limit


def locate_checkpoint(name: str) -> str:
    """Find out what an encoder's name stands for.

    name (str): A folder, the import name of an installed package that carries a model (in its
        folder or in `model/` below), or a name of the Hugging Face hub.
    RETURNS (str): What `from_pretrained` takes.
    """
    if Path(name).is_dir() or "/" in name or "." in name:
        return name
    spec = find_spec(name) if name.isidentifier() else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(place), Path(place) / "model"):
            if (folder / "config.json").is_file():
                return str(folder)
    return name


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from logging anything below an error, and from progress bars."""
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
    attention_dropout: float | None = None,
    kind: Kind = "AutoModel",
    n_labels: int | None = None,
    fresh_head: bool = False,
) -> tuple[HFModule, dict[str, Any], dict[str, bytes]]:
    """Load a pretrained network.

    name (str): As in `locate_checkpoint`.
    tokenizer (str | None): Name of its tokenizer where that is another one.
    dropout (float | None): Dropout inside the network; None keeps the checkpoint's own.
    casing (bool): As in `HFModule`.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. Torch
        has no fast kernel for it on the CPU: with rows of some hundred pieces 0.0 saves more than
        half of the time of training.
    kind (str): What to read it as.
    n_labels (int | None): With a task's head: its number of classes; None for the checkpoint's.
    fresh_head (bool): Draw the weights of the head anew, whatever the checkpoint has.
    RETURNS: The module, and the settings and files that `build_hf_module` makes its like from.
    RAISES (OSError): If there is no such checkpoint, with the advice what a name can be.
    RAISES (ValueError): If its head is missing or has another number of classes.
    """
    import transformers

    place = locate_checkpoint(name)
    settings = _dropout_settings(place, dropout, attention_dropout)
    if n_labels is not None:
        settings["num_labels"] = n_labels
    if fresh_head:
        settings["ignore_mismatched_sizes"] = True
    # What the log would say of new and missing weights is what was asked for, or raised below.
    with reading(name, n_labels), quiet_transformers():
        network, info = getattr(transformers, kind).from_pretrained(
            place, output_loading_info=True, trust_remote_code=False, **settings
        )
    check_finite(network.named_parameters())
    with reading(name):
        tok = load_tokenizer(tokenizer or name)
        files = hf_files(network, tok)
    if kind != "AutoModel" and not fresh_head and info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ValueError(Errors.E210.format(name=name, kind=kind, missing=missing))
    if fresh_head:
        _draw_head(network)
    module = HFModule(network.float(), tok, name, casing)
    return module, hf_settings(module, name, kind), files


@contextmanager
def reading(name: str, n_labels: int | None = None) -> Iterator[None]:
    """Turn whatever libraries raise about a checkpoint into one error with its name.

    name (str): Name or path of the checkpoint.
    n_labels (int | None): The number of classes asked for.
    RAISES (OSError): If it cannot be read, with the advice what a name can be.
    RAISES (ValueError): If it has another number of classes.
    """

    def explain(error: BaseException) -> Exception:
        text = str(error)
        if isinstance(error, RuntimeError) and ("size mismatch" in text or "mismatched" in text):
            return ValueError(Errors.E211.format(name=name, n_labels=n_labels, error=error))
        if not isinstance(error, OSError | ValueError):
            # What a library did not expect is often no sentence ('added_tokens').
            text = f"{type(error).__name__}: {text}"
        return OSError(Errors.E202.format(name=name, error=text))

    with library_errors(explain):
        yield


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer.

    A BERT checkpoint without `tokenizer_config.json` is lower-cased by default, which makes a cased
    vocabulary useless: where nothing is stated, the vocabulary decides.

    name (str): As in `locate_checkpoint`.
    RETURNS (PreTrainedTokenizerBase): A fast tokenizer where there is one.
    RAISES (OSError, ValueError): If there is no such tokenizer.
    """
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    place = locate_checkpoint(name)
    tokenizer = AutoTokenizer.from_pretrained(place, use_fast=True, trust_remote_code=False)
    # Where no file is found, transformers 5 makes a tokenizer that knows nothing.
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, "▁"}:
        raise OSError(Errors.E217.format(name=name))
    if not _wastes_case(tokenizer):
        return tokenizer
    if "do_lower_case" not in get_tokenizer_config(place):
        cased = AutoTokenizer.from_pretrained(
            place, use_fast=True, do_lower_case=False, trust_remote_code=False
        )
        if not _wastes_case(cased):
            return cased
    warn(Warnings.W108.format(name=name))
    return tokenizer


def _wastes_case(tokenizer: Any) -> bool:
    """Tell whether a tokenizer lower-cases text though its vocabulary has upper-case letters."""
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
    """Read a checkpoint's configuration alone.

    name (str): As in `locate_checkpoint`.
    RETURNS (PretrainedConfig): The configuration.
    RAISES (OSError): If there is no such checkpoint.
    """
    from transformers import AutoConfig

    with reading(name):
        return AutoConfig.from_pretrained(locate_checkpoint(name), trust_remote_code=False)


def head_names(network: nn.Module) -> list[str]:
    """Names of the parts of a Hugging Face network that are its task's head, not the encoder."""
    base = getattr(network, "base_model_prefix", "")
    return [name for name, _ in network.named_children() if hasattr(network, base) and name != base]


def _draw_head(network: nn.Module) -> None:
    std = getattr(network.config, "initializer_range", 0.02)
    for name in head_names(network):
        for part in network.get_submodule(name).modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=std)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)


# What configurations call it.
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
    place: str, dropout: float | None, attention_dropout: float | None
) -> dict[str, Any]:
    if attention_dropout is None:
        attention_dropout = dropout
    wanted = {
        **dict.fromkeys(_DROPOUT, dropout),
        **dict.fromkeys(_ATTENTION_DROPOUT, attention_dropout),
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if not wanted:
        return {}
    config = read_config(place)
    return {name: value for name, value in wanted.items() if hasattr(config, name)}


def hf_settings(module: HFModule, name: str, kind: Kind = "AutoModel") -> dict[str, Any]:
    """Return the settings from which, with `hf_files`, a module can be made again."""
    return {"name": name, "casing": module.casing is not None, "kind": kind}


def hf_files(network: Any, tokenizer: Any) -> dict[str, bytes]:
    """Return the files from which network and tokenizer can be made again (weights excluded)."""
    return {**tokenizer_to_files(tokenizer), **_config_file(network)}


# What transformers 4 calls settings that transformers 5 writes elsewhere. It would take its defaults
# instead, without a word.
_OLDER_NAMES = {
    "rope_theta": ("rope_parameters", "rope_theta"),
    "global_rope_theta": ("rope_parameters", "full_attention", "rope_theta"),
    "local_rope_theta": ("rope_parameters", "sliding_attention", "rope_theta"),
}


def _config_file(network: Any) -> dict[str, bytes]:
    """Return the configuration of a network as a file that transformers 4 and 5 read alike."""
    settings = json.loads(network.config.to_json_string())
    for name, path in _OLDER_NAMES.items():
        value: Any = settings
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            settings.setdefault(name, value)
    return {"config.json": json.dumps(settings, indent=2, ensure_ascii=False).encode("utf-8")}


def build_hf_module(cfg: dict[str, Any], files: dict[str, bytes]) -> HFModule:
    """Make a network with fresh weights from what `load_checkpoint` returned."""
    import transformers

    # From memory: loading a pipeline writes no file, and no code that comes with a checkpoint runs.
    settings = json.loads(files["config.json"])
    config = transformers.CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    kind = getattr(transformers, cfg.get("kind", "AutoModel"))
    network = kind.from_config(config, trust_remote_code=False)
    return HFModule(network.float(), tokenizer_from_files(files), cfg["name"], cfg["casing"])


def resize_embeddings(module: HFModule, n_new: int) -> tuple[int, dict[str, bytes]]:
    """Add rows for new symbols to a network's input embeddings.

    module (HFModule): The network; its tokenizer knows nothing of the new rows, so no text can be
        mistaken for them.
    n_new (int): How many.
    RETURNS (tuple[int, dict[str, bytes]]): Index of the first new row; the changed `config.json`.
    """
    network: Any = module.transformer
    first = int(network.get_input_embeddings().weight.shape[0])
    with quiet_transformers():
        network.resize_token_embeddings(first + n_new)
    return first, _config_file(network)
