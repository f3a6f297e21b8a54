"""Makes C++ of preprocessed CUDA C++: shared variables, kernels, and the table of kernels."""
from __future__ import annotations

import re
from collections.abc import Iterable

from gpugrad.cudasim.errors import CompileError

_TOKEN = re.compile(
    r'R"([^\s()\\]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\\n]){1,4}\'|[{};]'
    r'|\b(?:__shared__|__global__|asm|__asm__|__asm)\b', re.S)
_MARKER = re.compile(r'^#[^\n]*$', re.M)
_LINE = re.compile(r'^# (\d+) "([^"]*)"', re.M)
_ATTRIBUTE = re.compile(r"__attribute__\s*\(\(.*?\)\)+")
_DYNAMIC = re.compile(r"(.*?)(\w+)\s*\[\s*\]((?:\s*\[[^\]]*\])*)\s*", re.S)
_BOUNDS = re.compile(r"__launch_bounds__\s*\(")


def place(text: str, position: int) -> tuple[str, int]:
    """(file, line) of a position in preprocessed text."""
    file, line, start = "", 0, 0
    for m in _LINE.finditer(text, 0, position):
        file, line, start = m[2], int(m[1]), m.end() + 1
    return file, line + text.count("\n", start, position)


def _closing(text: str, start: int) -> int:
    """Just behind the parenthesis that closes the one before ``start``."""
    depth, i = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        i += 1
    return i


def _end_of_declaration(text: str, start: int) -> int:
    """Where the semicolon of the declaration is that goes on at ``start``."""
    depth, i = 0, start
    while text[i] != ";" or depth:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[i], 0)
        i += 1
    return i


def _declared(declarators: str) -> list[str]:
    """The names in "float a[4][5], b"."""
    text, before = _ATTRIBUTE.sub("", declarators), ""
    while before != text:
        before, text = text, re.sub(r"\[[^\[\]]*\]|\{[^{}]*\}|\([^()]*\)", " ", text)
    before = ""
    while before != text:
        before, text = text, re.sub(r"<[^<>]*>", " ", text)
    return [re.findall(r"\w+", part)[-1] for part in text.split(",")]


class Rewriter:
    """One pass over preprocessed text. The number of lines stays.

    kernels: the names of the extern "C" kernels, each with the first number of its launch bounds.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.kernels: dict[str, str] = {}
        self._edits: list[tuple[int, int, str]] = []
        self._open: list[str] = []          # what each open brace belongs to
        self._begin = 0                     # of the running declaration or statement

    def run(self) -> str:
        skip = 0
        for m in _TOKEN.finditer(self.text):
            token, at = m[0], m.start()
            if at < skip or token[0] in "\"'R":
                continue
            if token == "{":
                self._open.append(self._brace(at))
            elif token == "}":
                if self._open:
                    self._open.pop()
            elif token == "__shared__":
                skip = self._shared(at)
            elif token == "__global__":
                self._kernel(at)
            elif token != ";":
                file, line = place(self.text, at)
                raise CompileError(f"{file}:{line}: inline PTX (asm) can't be simulated; keep a "
                                   f"C++ version under #ifdef __GPUGRAD_CUDASIM__")
            if token in "{};":
                self._begin = m.end()
        parts, end = [], 0
        for start, stop, new in self._edits:
            parts += [self.text[end:start], new]
            end = stop
        return "".join([*parts, self.text[end:]])

    def _head(self, at: int) -> str:
        """The running declaration up to ``at``."""
        return _MARKER.sub("", self.text[self._begin:at])

    def _brace(self, at: int) -> str:
        head = self._head(at).strip()
        if head.endswith('extern "C"'):
            return "C"
        return "namespace" if re.search(r"\bnamespace\b[^()=]*$", head) else "code"

    def _kernel(self, at: int) -> None:
        head, end = self._head(at), at + len("__global__")
        self._edits.append((at, end, "__attribute__((noinline))"))
        declaration, most = self.text[end:self.text.find("{", end)], "0"
        bounds = _BOUNDS.search(declaration)
        if bounds:
            stop = _closing(declaration, bounds.end())
            most = declaration[bounds.end():stop - 1]
            declaration = declaration[:bounds.start()] + declaration[stop:]
            self._edits.append((end + bounds.start(), end + stop, ""))
        name = re.search(r"(\w+)\s*\(", declaration)
        if name and not re.search(r"\btemplate\b", head) and (
                "C" in self._open or 'extern "C"' in head):
            self.kernels[name[1]] = _first(most)

    def _shared(self, at: int) -> int:
        """Rewrite a declaration of shared variables. Returns where it ends."""
        start, stop = at + len("__shared__"), _end_of_declaration(self.text, at)
        head, rest, inside = self._head(at), self.text[start:stop], "code" in self._open
        if re.search(r'\bextern\b(?!\s*")', head):
            new = self._dynamic(re.sub(r"\bextern\b", "", head), rest, inside)
            lines = self.text.count("\n", self._begin, stop) - new.count("\n")
            marker = _MARKER.search(self.text, self._begin, at)
            begin = self.text.rfind("extern", self._begin, at) if marker else self._begin
            self._edits.append((begin, stop, "\n" * lines + new if begin == self._begin else new))
            return stop
        # __constinit: else g++ guards the first use of a class with other constructors.
        self._edits.append((at, start, "__constinit" if re.search(r"\bstatic\b", head)
                            else "static __constinit"))
        names = _declared(rest)
        if inside:
            calls = "".join(f" cs_shared_variable({name});" for name in names)
        else:
            calls = "".join(f" static const int cs_of_file_{name} = "
                            f"cs_shared_variable_of_file({name});" for name in names)
        self._edits.append((stop + 1, stop + 1, calls))
        return stop

    @staticmethod
    def _dynamic(head: str, rest: str, inside: bool) -> str:
        """``extern __shared__ T s[]`` as a pointer; outside functions as the runtime's own one."""
        m = _DYNAMIC.fullmatch(_ATTRIBUTE.sub("", rest))
        if m is None:
            raise CompileError(f"can't read the declaration: extern __shared__{rest};")
        kind, name, sizes = head.strip() + " " + m[1].strip(), m[2], m[3]
        if inside:
            variable, cast = (f"(*{name}){sizes}", f"(*){sizes}") if sizes else (f"* {name}", "*")
            return f"{kind} {variable} = ({kind} {cast}) cs_dynamic_shared"
        if sizes:
            return (f"static {kind} (* const& {name}){sizes} = "
                    f"({kind} (* const&){sizes}) cs_dynamic_shared")
        return f"static {kind}* const& {name} = ({kind}* const&) cs_dynamic_shared"


def _first(arguments: str) -> str:
    """The first of a macro's arguments."""
    depth = 0
    for i, c in enumerate(arguments):
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and not depth:
            return arguments[:i]
    return arguments


def exports(kernels: dict[str, str], name_expressions: Iterable[str]) -> str:
    """The end of a module's text: the table that the runtime and kernel.py read."""
    rows = [f'cs_export("{name}", ({most}), &{name})' for name, most in kernels.items()]
    rows += [f'cs_export("{name}", 0, &{name})' for name in name_expressions]
    return ('\n# 1 "the table of kernels"\nextern "C" {\n'
            f"cs_kernel cs_kernels[] = {{\n{','.join(chr(10) + row for row in rows) or '{}'}}};\n"
            f"int cs_kernel_count = {len(rows)};\n}}\n")


def lines(code: str, path: str) -> dict[tuple[str, int], str]:
    """The source's lines by (file, number), as its #line directives have it."""
    found, file, number = {}, path, 1
    for text in code.split("\n"):
        m = re.match(r'\s*#\s*line\s+(\d+)(?:\s+"([^"]*)")?', text)
        if m:
            file, number = m[2] or file, int(m[1])
        else:
            found[file, number] = text
            number += 1
    return found


def excerpts(message: str, code: str, path: str) -> str:
    """The compiler's message with the line of source below each error."""
    known = lines(code, path)

    def with_line(m: re.Match[str]) -> str:
        text = known.get((m[1], int(m[2])), "").strip()
        # Without the column, which is that of the preprocessed text.
        return f"{m[1]}:{m[2]}: {m[3]}" + (f"\n    {text}" if text and "error: " in m[3] else "")

    return re.sub(r"^([^:\n]+):(\d+):(?:\d+:)? (.*)$", with_line, message, flags=re.M)
