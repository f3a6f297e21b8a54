"""torch.ao.quantization: the newer name of torch.quantization."""
from __future__ import annotations

from gpugrad import quantization as _quantization

globals().update({_name: _value for _name, _value in vars(_quantization).items()
                  if not _name.startswith("_") and _name != "annotations"})
