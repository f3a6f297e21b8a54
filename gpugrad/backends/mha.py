"""torch.backends.mha: the switch of a faster path of nn.MultiheadAttention for inference."""
from __future__ import annotations

_fastpath = [True]


def get_fastpath_enabled() -> bool:
    """What set_fastpath_enabled was given."""
    return _fastpath[0]


def set_fastpath_enabled(value: bool) -> None:
    """Remembered, without effect: there is one path."""
    _fastpath[0] = value
