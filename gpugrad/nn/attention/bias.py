"""Causal masks that scaled_dot_product_attention knows without their elements."""
from __future__ import annotations

import enum
import warnings
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.creation import ones
from gpugrad.functions.attention import scaled_dot_product_attention


class CausalVariant(enum.IntEnum):
    """Where the last query that sees all its keys is: UPPER_LEFT, query i sees the keys 0 ... i;
    LOWER_RIGHT, the last query sees all keys."""

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


class CausalBias:
    """A causal mask of seq_len_q x seq_len_kv, for scaled_dot_product_attention's attn_mask."""

    def __init__(self, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> None:
        if not isinstance(variant, CausalVariant):
            raise AssertionError(f"variant must be a CausalVariant, got {type(variant).__name__}")
        self.variant, self.seq_len_q, self.seq_len_kv = variant, seq_len_q, seq_len_kv
        if seq_len_q > seq_len_kv and variant == CausalVariant.LOWER_RIGHT:
            warnings.warn("Lower right causal bias will produce NaNs in the output when seq_len_q "
                          "> seq_len_kv!", stacklevel=2)

    def _materialize(self, device: Any = None) -> Tensor:
        """The mask as bools."""
        lower_right = self.variant == CausalVariant.LOWER_RIGHT
        mask = ones(self.seq_len_q, self.seq_len_kv, dtype=bool, device=device)
        return mask.tril(self.seq_len_kv - self.seq_len_q if lower_right else 0)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, dropout_p: float, is_causal: bool,
                scale: float | None, enable_gqa: bool) -> Tensor:
        """scaled_dot_product_attention with this mask."""
        if is_causal:
            raise ValueError("CausalBias should not be used with causal=True")
        upper_left = (self.variant == CausalVariant.UPPER_LEFT
                      or self.seq_len_q == self.seq_len_kv)
        mask = None if upper_left else self._materialize(query.device)
        return scaled_dot_product_attention(query, key, value, mask, dropout_p, upper_left,
                                            scale=scale, enable_gqa=enable_gqa)

    def __repr__(self) -> str:
        return repr(self._materialize())


def causal_upper_left(*size: int) -> CausalBias:
    """The mask by which query i sees the keys 0 ... i."""
    if len(size) != 2:
        raise AssertionError("causal_upper_left only supports 2D tensors")
    return CausalBias(CausalVariant.UPPER_LEFT, *size)


def causal_lower_right(*size: int) -> CausalBias:
    """The mask by which the last query sees all keys, the one before all but the last..."""
    if len(size) != 2:
        raise AssertionError("causal_lower_right only supports 2D tensors")
    return CausalBias(CausalVariant.LOWER_RIGHT, *size)
