"""Makes the wheel smaller, so that it stays below a megabyte.

Python files go without comments, without docstrings and annotations of private functions and of
internal files, and indented by one space a level; C and CUDA files without comments and indents,
all in one zip file. Lines keep their numbers, and public names what help() shows, so that it and
tracebacks are those of the sources. Then all is packed as small as Deflate can: by Zopfli, about
2.5 % smaller than zlib's best, where it is installed, as pip sees to.
"""
from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import io
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
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


# Nobody's help() shows what is in these, but for the ops themselves, which are classes.
INTERNAL = re.compile(
    r"gpugrad/(ops/|backend/(?!precision)|recording/(?!__init__|step)|onnx/(?!__init__)|command/"
    r"|autograd/(casting|conjugate|direct_entry|engine|entry|inplace|listening|node|op|out|rules"
    r"|saved|transfer)\.|backends/_remembered|func/(levels|trees)\.|functions/arguments"
    r"|distributions/(chances|covariances|half|kl_mixed|kl_pairs)\.|nn/modules/whereabouts"
    r"|optim/(fused|helped|in_stretches|line_search|live|options|recorded|whole)\."
    r"|serialization/(archive|contents|legacy|memory|pickler|unpickler)\."
    r"|utils/data/(failure|fetching|parallel|processes|shared_memory|threads|worker)\."
    r"|(_blas_threads|_hooks|_printing|_state|absent|factory|methods|parsing|tensor_types)\.)")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def hidden_definitions(tree: ast.AST, internal: bool) -> list[Any]:
    """The functions and classes that are private, or stand in such; in an internal file also all
    functions."""
    found = []

    def visit(node: ast.AST, private: bool) -> None:
        for child in ast.iter_child_nodes(node):
            hidden = private
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                hidden = private or is_private(child.name) \
                    or (internal and not isinstance(child, ast.ClassDef))
                found.extend([child] * hidden)
            visit(child, hidden)
    visit(tree, False)
    return found


def local_annotations(node: ast.AST, local: bool = False) -> Iterator[Any]:
    """The assignments to local variables of functions that say a type."""
    for child in ast.iter_child_nodes(node):
        if local and isinstance(child, ast.AnnAssign) and child.value \
                and (child.simple or not isinstance(child.target, ast.Name)) \
                and child.lineno == child.annotation.end_lineno:
            yield child
        yield from local_annotations(child, isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef) or (
                local and not isinstance(child, ast.ClassDef)))


def without_notes(source: bytes, internal: bool) -> bytes:
    """Python source with only line ends in the places of docstrings and annotations of what is
    hidden, and of an internal file's own docstring; without annotations of local variables."""
    begins = [0]                                 # of lines, in bytes, as the tree counts columns
    for line in source.split(b"\n"):
        begins.append(begins[-1] + len(line) + 1)

    def end(node: Any) -> int:
        return int(begins[node.end_lineno - 1] + node.end_col_offset)

    def start(node: Any) -> int:
        return int(begins[node.lineno - 1] + node.col_offset)

    tree = ast.parse(source)
    cuts = [(end(node.target), end(node.annotation)) for node in local_annotations(tree)]
    if internal and ast.get_docstring(tree) is not None:
        cuts.append((0, end(tree.body[0])))
    for node in hidden_definitions(tree, internal):
        first, *rest = node.body
        # A body needs a statement; and one may begin in the docstring's last line.
        if ast.get_docstring(node) is not None and rest and node.lineno < first.lineno \
                and first.end_lineno < rest[0].lineno:
            cuts.append((begins[first.lineno - 1], end(first)))
        if not isinstance(node, ast.ClassDef):
            cuts += [(start(arg) + len(arg.arg.encode()), end(arg.annotation))
                     for arg in ast.walk(node.args) if isinstance(arg, ast.arg) and arg.annotation]
            if node.returns and node.returns.lineno == node.returns.end_lineno:
                arrow = source.rindex(b"->", 0, start(node.returns))
                cuts.append((len(source[:arrow].rstrip(b" ")), end(node.returns)))
    for a, b in sorted(cuts, reverse=True):
        source = source[:a] + b"\n" * source.count(b"\n", a, b) + source[b:]
    return source


def with_short_indents(source: bytes) -> bytes:
    """Python source without comments, indented by one space a level; lines that go on, by one."""
    lines = source.decode("utf-8").split("\n")
    level = within = 0                           # within: parts of an f-string, from Python 3.12 on
    starts, seen = True, 0
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("INDENT", "DEDENT"):
            level += 1 if kind == "INDENT" else -1
        elif kind == "NEWLINE":
            starts = True
        elif kind not in ("ENCODING", "NL", "ENDMARKER"):
            row = token.start[0]
            if row > seen and not within:
                lines[row - 1] = " " * (level if starts else 1) + lines[row - 1].lstrip(" ")
            seen, starts = max(seen, token.end[0]), False
            within += (kind == "FSTRING_START") - (kind == "FSTRING_END")
    return "\n".join(lines).encode("utf-8")


def small_python(source: bytes, internal: bool = False) -> bytes:
    bare = without_notes(without_comments(source), internal)
    short = with_short_indents(bare)
    return short if ast.dump(ast.parse(short)) == ast.dump(ast.parse(bare)) else bare


# A text or a character, which stay, or a comment; not R"(...)", which no source here has.
_C_PARTS = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|//[^\n]*|/\*.*?\*/', re.S)


def small_c(source: bytes) -> bytes:
    """C or CUDA source without comments and indents, line by line."""
    def part(found: re.Match[str]) -> str:
        text = found[0]
        return text if text[0] in "\"'" else "\n" * text.count("\n") or " "
    text = _C_PARTS.sub(part, source.decode("utf-8"))
    return "\n".join([line.strip() for line in text.split("\n")]).encode("utf-8")


def small(name: str, content: bytes) -> bytes:
    """A file as it goes into the wheel."""
    ending = os.path.splitext(name)[1]
    if ending == ".py":
        return small_python(content, INTERNAL.match(name) is not None)
    return small_c(content) if ending in (".cu", ".cuh", ".c", ".h") else content


_KERNELS = "gpugrad/_kernels/"


def with_kernels_together(files: dict[str, Any]) -> dict[str, Any]:
    """The kernels' sources as one zip file, which Deflate then packs as one text: they are alike,
    and make two thirds of what they were."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as inner:
        for name in sorted(files):
            if name.startswith(_KERNELS):
                inner.writestr(zipfile.ZipInfo(name[len(_KERNELS):]), files[name][1])
    rest = {name: file for name, file in files.items() if not name.startswith(_KERNELS)}
    item = zipfile.ZipInfo(_KERNELS[:-1] + ".zip")
    item.external_attr = 0o100644 << 16
    return {item.filename: (item, out.getvalue()), **rest}


def deflated(content: bytes) -> bytes:
    """The shortest of what the compressors here make of it."""
    found = []
    for memory in (8, 9):                        # how long a block is, which shifts a little
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, memory)
        found.append(packer.compress(content) + packer.flush())
    with contextlib.suppress(ImportError):
        from zopfli.zlib import compress

        # Without zlib's header and checksum. To look for blocks takes five times as long, and finds
        # little in files as short as these.
        found.append(compress(content, blocksplitting=len(content) > 1 << 16)[2:-4])
    return min(found, key=len)


def archive(files: dict[str, tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    """A zip file of these, as zipfile would write it, which takes no packed contents."""
    out, directory = bytearray(), bytearray()
    for name, (item, content) in files.items():
        year, month, day, hour, minute, second = item.date_time
        encoded, packed = name.encode("utf-8"), deflated(content)
        common = struct.pack(
            "<5H3L2H", 20, 0 if name.isascii() else 0x800, zipfile.ZIP_DEFLATED,
            hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day,
            zlib.crc32(content), len(packed), len(content), len(encoded), 0)
        directory += b"PK\1\2" + struct.pack("<H", item.create_system << 8 | 20) + common \
            + struct.pack("<3H2L", 0, 0, 0, item.external_attr, len(out)) + encoded
        out += b"PK\3\4" + common + encoded + packed
    end = struct.pack("<4H2LH", 0, 0, len(files), len(files), len(directory), len(out), 0)
    return bytes(out + directory + b"PK\5\6" + end)


def record(files: dict[str, tuple[zipfile.ZipInfo, bytes]], own_name: str) -> bytes:
    """The wheel's list of files with their hashes and sizes."""
    lines = []
    for name, (_, content) in files.items():
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
        files = {name: (item, small(name, content)) for name, (item, content) in items.items()}
        files = with_kernels_together(files)
        files[own_name] = last, record(files, own_name)
        part = artifact_path + ".part"
        with open(part, "wb") as file:
            file.write(archive(files))
        os.replace(part, artifact_path)
