"""BLIP's text network up to the state of its first token, without the work that this state does not need.

Letters of shapes: B rows (an image and its prompt), T tokens, W width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask


def first_token(text: Any, seen: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(B, W) last states of the first of (B, T) tokens, after a look at the image's states in every layer.

    It is what `BlipTextModel` gives, but in the last layer the other tokens are only looked at and get no states.
    """
    states = text.embeddings(input_ids=input_ids)
    mask = create_bidirectional_mask(config=text.config, inputs_embeds=states, attention_mask=attention_mask)
    *lower, last = text.encoder.layer
    for layer in lower:
        states = layer(states, seen, attention_mask=mask)
    first = states[:, :1]
    # The module for self-attention takes other keys than its queries as if they were an image's.
    read, _ = last.attention.self(
        first, encoder_hidden_states=states, encoder_attention_mask=None if mask is None else mask[:, :, :1]
    )
    attended = last.attention.output(read, first)
    attended, _ = last.crossattention(attended, encoder_hidden_states=seen)
    state: Tensor = last.feed_forward_chunk(attended)
    return state[:, 0]
