"""torch.backends.quantized: there are no quantised tensors, and so no engine for them."""
from __future__ import annotations

engine = "none"
supported_engines = ["none"]
