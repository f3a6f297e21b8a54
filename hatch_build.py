"""Makes the wheel smaller: its Python files go without comments, and everything is packed best.

Line numbers and docstrings stay, so tracebacks and help() are those of the sources.
"""
from __future__ import annotations

import base64
import hashlib
import io
import os
import tokenize
import zipfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def without_comments(source: bytes) -> bytes:
    """Python source with its comments cut off, line by line."""
    lines = source.decode("utf-8").split("\n")
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(lines).encode("utf-8")


def record(files: dict[str, bytes], own_name: str) -> bytes:
    """The wheel's list of files with their hashes and sizes."""
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own_name},,", ""]).encode("utf-8")


class WheelHook(BuildHookInterface):
    """Packs a finished wheel anew. Hatchling calls it; see pyproject.toml."""

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "standard":                # an editable installation has no files to pack
            return
        with zipfile.ZipFile(artifact_path) as wheel:
            items = {item.filename: (item, wheel.read(item)) for item in wheel.infolist()}
        own_name = next(name for name in items if name.endswith(".dist-info/RECORD"))
        last, _ = items.pop(own_name)
        files = {name: without_comments(content) if name.endswith(".py") else content
                 for name, (_, content) in items.items()}
        part = artifact_path + ".part"
        with zipfile.ZipFile(part, "w") as wheel:
            for item, content in [*((items[name][0], files[name]) for name in files),
                                  (last, record(files, own_name))]:
                wheel.writestr(item, content, zipfile.ZIP_DEFLATED, 9)
        os.replace(part, artifact_path)
