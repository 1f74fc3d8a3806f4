"""A layer between the encoder and the heads of SpERT: a BiLSTM or a transformer layer.

A pretrained encoder knows language, and a fresh layer above it learns how the entities of the task lie
together. eznlp (github.com/syuoni/eznlp) reports better relations on CoNLL04 with a BiLSTM there, and worse
ones on SciERC. The layer's input is added to its output, so that it begins close to the encoder's vectors.

The layer reads runs of pieces: those of one text (a Doc or, with scope = "sentence", a sentence) that have
their vectors from one window. At the border of two windows it therefore sees one side only, unlike the
encoder, whose windows overlap. In return, its memory is bounded, and nothing depends on the batch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..arrays import IntArray
from ..encoding.batching import padded_batches
from ..encoding.encoder import EncodedDocs
from ..encoding.transfer import to_device

# Width of the heads of the transformer layer, as in BERT, where the vectors' width is a multiple of it.
_HEAD_WIDTH = 64


class ContextLayer(nn.Module):
    """One BiLSTM or transformer layer over runs of pieces.

    kind (str): "lstm" or "transformer".
    width (int): Width of the pieces' vectors.
    dropout (float): Dropout of what the layer adds to them.
    """

    def __init__(self, kind: Literal["lstm", "transformer"], width: int, dropout: float):
        super().__init__()
        self.width = width
        self.lstm = self.transformer = None
        self.dropout = nn.Dropout(dropout)
        if kind == "lstm":
            # Two directions, which together are as wide as the input (one wider if that is odd).
            self.lstm = nn.LSTM(width, (width + 1) // 2, batch_first=True, bidirectional=True)
            return
        n_heads = max(1, width // _HEAD_WIDTH)
        self.transformer = nn.TransformerEncoderLayer(
            width,
            n_heads if width % n_heads == 0 else 1,
            dim_feedforward=4 * width,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )

    def forward(self, pieces: Tensor, lengths: IntArray) -> Tensor:
        """Read runs of pieces, each by itself.

        pieces (Tensor): Vectors of the pieces. *Shape:* ``(n_pieces, width)``
        lengths (int64 array, (n_runs,)): Number of pieces of each run; they follow one another.
        RETURNS (Tensor): New vectors of the pieces. *Shape:* ``(n_pieces, width)``
        """
        if not len(pieces):
            return pieces
        rows = np.split(np.arange(len(pieces)), np.cumsum(lengths)[:-1])
        outputs = []
        place = np.zeros(len(pieces), dtype=np.int64)  # row of each piece in the padded batches
        n_padded = 0
        for batch, (ids, mask) in padded_batches([(rows, 0)], "auto", pieces.device):
            longest = ids.shape[1]
            for i, run in enumerate(batch.tolist()):
                place[rows[run]] = n_padded + i * longest + np.arange(len(rows[run]))
            n_padded += ids.numel()
            outputs.append(self._run(F.embedding(ids, pieces), mask, lengths[batch]).flatten(0, 1))
        return torch.cat(outputs).index_select(0, to_device(torch.from_numpy(place), pieces.device))

    def _run(self, vectors: Tensor, mask: Tensor, lengths: IntArray) -> Tensor:
        """Read a padded batch of runs, longest first."""
        if self.transformer is not None:
            read: Tensor = self.transformer(vectors, src_key_padding_mask=mask == 0)
            return read
        assert self.lstm is not None
        packed = pack_padded_sequence(vectors, torch.from_numpy(lengths), batch_first=True)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return vectors + self.dropout(states[:, :, : self.width])


def run_lengths(encoded: EncodedDocs, text_offsets: IntArray) -> IntArray:
    """Count the pieces of each run: those of one text that have their vectors from one window.

    encoded (EncodedDocs): The encoded Docs.
    text_offsets (int64 array, (n_texts + 1,)): First token of each text, and the end of the last one.
    RETURNS (int64 array, (n_runs,)): Number of pieces, in their order; each at least 1.
    """
    token_pieces = encoded.token_pieces.numpy()
    tokens = np.flatnonzero(token_pieces[:, 1] > token_pieces[:, 0])
    text = np.searchsorted(text_offsets, tokens, side="right")
    run = np.stack([text, encoded.token_window.numpy()[tokens]], axis=1)
    begins = np.any(np.diff(run, axis=0) != 0, axis=1)
    starts = token_pieces[tokens[1:][begins], 0]
    return np.diff(np.unique([0, *starts, len(encoded.pieces)]))
