"""api.json: the names and parameters that the real CuPy has, and binding of calls to them."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "api.json").read_text(encoding="utf-8"))
MODULES: dict[str, dict[str, list[str] | None]] = RECORD["modules"]
CLASSES: dict[str, dict[str, list[str] | None]] = RECORD["classes"]
UFUNCS: dict[str, list[str]] = RECORD["ufuncs"]


class Parameters:
    """The parameters of one of CuPy's functions, to check and name the arguments of a call."""

    def __init__(self, name: str, recorded: Sequence[str]) -> None:
        self.name = name
        self.rest = any(p.startswith("*") and p[1:2] not in ("", "*") for p in recorded)
        self.free = any(p.startswith("**") for p in recorded)
        first = [i for i, p in enumerate(recorded) if p.startswith("*")]
        self.positional = list(recorded[:first[0]] if first else recorded)
        self.names = {p for p in recorded if not p.startswith("*")}

    def bind(self, args: Sequence[Any], kw: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name. TypeError for those that CuPy doesn't take."""
        if len(args) > len(self.positional):
            raise TypeError(f"{self.name}() takes {len(self.positional)} positional arguments but "
                            f"{len(args)} were given")
        bound = dict(zip(self.positional, args))
        for n, v in kw.items():
            if n in bound:
                raise TypeError(f"{self.name}() got multiple values for argument {n!r}")
            if n not in self.names and not self.free:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {n!r}")
            bound[n] = v
        return bound
