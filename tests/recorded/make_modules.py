"""Writes modules.json: what PyTorch's modules of tests/module_table.py are and give. Needs torch.

Of each tensor a digest: its shape, its norm, and its product with a vector of cosines.
"""
from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from module_table import LINES, Line, backward, call, leaves  # noqa: E402


def digest(t: Any) -> Any:
    """[shape, norm, product] of a tensor; None for none."""
    if t is None:
        return None
    a = t.detach().cpu().numpy().astype(np.float64)
    product = float((a.reshape(-1) * np.cos(np.arange(a.size))).sum())
    return [list(a.shape), float(f"{np.sqrt((a * a).sum()):.7g}"), float(f"{product:.7g}")]


def seen(lib: Any, line: Line, device: str = "cpu") -> dict[str, Any]:
    """What a line's module is, and gives in training and in evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = line.make(lib)
        found = {"repr": repr(m), "state": {k: digest(v) for k, v in m.state_dict().items()}}
        m.to(device)
        for name, mode in (("train", True), ("eval", False)):
            m.train(mode).zero_grad()
            inputs = leaves(lib, line.arrays(), device=device)
            results = call(m, inputs)
            backward(lib, results)
            found[name] = [[digest(t) for t in ts] for ts in (
                results, [t.grad for t in inputs], [p.grad for p in m.parameters()])]
        found["after"] = {k: digest(v) for k, v in m.named_buffers()}
    return found


def main() -> None:
    import torch

    lines = [f"{json.dumps(line.code)}: {json.dumps(seen(torch, line))}" for line in LINES]
    (HERE / "modules.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
