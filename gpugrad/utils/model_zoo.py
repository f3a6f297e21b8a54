"""torch.utils.model_zoo: the older name of parts of torch.hub."""
from __future__ import annotations

from gpugrad.hub import load_state_dict_from_url as load_url

__all__ = ["load_url"]
