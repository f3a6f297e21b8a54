"""The house rules of imports: downward, without cycles, CuPy in functions only, a light start."""
from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gpugrad"

# Which layer a file or folder of gpugrad/ is on. An import may go down, or stay on its layer.
LAYERS = {name: number for number, names in enumerate([
    ["_blas_threads", "_state", "dtypes", "device", "layouts", "_hooks", "absent"],
    ["backend", "cudasim"],
    ["_tensor", "_printing"],
    ["autograd"],
    ["ops"],
    ["functions", "methods", "creation", "new_methods", "factory", "parsing", "random", "sampling",
     "fills", "signal_windows", "tensor_types", "serialization", "special", "linalg", "fft",
     "storage", "cuda", "pinned", "backends", "amp", "settings", "cpu",
     "_C", "__config__", "_dynamo", "accelerator", "assertions", "compiler",
     "distributed", "futures", "fx", "hub", "library", "multiprocessing", "overrides", "profiler",
     "sparse", "testing", "types", "version"],
    ["nn", "func", "distributions", "_jit_internal", "ao", "jit", "onnx", "quantization"],
    ["optim"],
    ["utils", "recording"],
]) for name in names}
TOP = len(LAYERS)        # gpugrad/__init__.py itself, which gathers them all; and its command line
LAYERS |= {"command": TOP, "__main__": TOP, "vision": TOP}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def layer(module: str) -> int:
    _, _, rest = module.partition(".")
    return LAYERS[rest.split(".")[0]] if rest else TOP


def imports(tree: ast.AST, in_functions: bool) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of imports outside functions, or in them; not those for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            if in_functions:
                for inner in ast.walk(node):
                    yield from _imported(inner)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(other, in_functions)
        else:
            if not in_functions:
                yield from _imported(node)
            yield from imports(node, in_functions)


def _imported(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.name, ""
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute in this project"
        for alias in node.names:
            yield node.lineno, node.module or "", alias.name


def edges(module: str, in_functions: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module of gpugrad) that a module imports."""
    for line, source, name in imports(TREES[module], in_functions):
        if source.split(".")[0] == "gpugrad":
            both = f"{source}.{name}"
            yield line, both if both in MODULES else source


def place(module: str, line: int) -> str:
    return f"{MODULES[module].relative_to(ROOT)}:{line}"


def test_every_file_has_a_layer():
    missing = sorted({name.split(".")[1] for name in MODULES if "." in name} - set(LAYERS))
    assert not missing, f"add these to LAYERS: {missing}"


@pytest.mark.parametrize("in_functions", [False, True], ids=["at the top", "in functions"])
def test_imports_go_down(in_functions):
    upward = [f"{place(module, line)} imports {target}"
              for module in MODULES for line, target in edges(module, in_functions)
              if layer(target) > layer(module)]
    assert not upward, "\n".join(upward)


def test_no_cycles():
    graph = {module: {target for _, target in edges(module)} for module in MODULES}
    state: dict[str, bool] = {}           # False while a module is being looked through, then True

    def look(module: str, path: list[str]) -> None:
        if state.get(module):
            return
        assert module not in state, " -> ".join([*path[path.index(module):], module])
        state[module] = False
        for target in sorted(graph.get(module, ())):
            look(target, [*path, module])
        state[module] = True

    for module in graph:
        look(module, [])


def test_what_is_imported_exists():
    unknown = [f"{place(module, line)} imports {target}"
               for module in MODULES for inside in (False, True)
               for line, target in edges(module, inside) if target not in MODULES]
    assert not unknown, "\n".join(unknown)


def test_cupy_is_imported_inside_functions_only():
    found = [place(module, line) for module, tree in TREES.items()
             for line, source, _ in imports(tree, in_functions=False)
             if source.split(".")[0] in ("cupy", "cupyx", "cupy_backends")]
    assert not found, found


def test_modules_outside_the_standard_library_are_numpy_only():
    allowed = {"numpy", "gpugrad", *sys.stdlib_module_names}
    # Only pytest imports the first two, and only who has tensorboard the last.
    others = {"gpugrad.cudasim.pytest_plugin": "pytest", "gpugrad.cudasim.driver.plugin": "pytest",
              "gpugrad.utils.tensorboard": "tensorboard"}
    found = [f"{place(module, line)} imports {source}" for module, tree in TREES.items()
             for line, source, _ in imports(tree, in_functions=False)
             if source.split(".")[0] not in {*allowed, others.get(module)}]
    assert not found, found


def fresh(code: str) -> str:
    """What a new Python prints that can import gpugrad and runs ``code``."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def test_the_imports_of_a_start_are_few_and_cheap():
    new = set(json.loads(fresh(
        "import json, sys, numpy; before = set(sys.modules); import gpugrad; "
        "print(json.dumps(sorted(set(sys.modules) - before)))")))
    outside = {name for name in new if name.split(".")[0] != "gpugrad"}
    costly = {"cupy", "scipy", "torch", "matplotlib", "multiprocessing", "unittest", "urllib",
              "http", "ssl", "zipfile", "tarfile", "tempfile", "subprocess", "asyncio", "logging",
              "concurrent", "email", "html", "xml", "sqlite3", "ctypes", "decimal"}
    assert not {name for name in outside if name.split(".")[0] in costly}
    assert len(outside) <= 12, sorted(outside)
    # Nothing that only some programs need.
    assert not new & {"gpugrad.backend.cuda", "gpugrad.autograd.gradcheck"}


def test_a_start_prints_nothing():
    assert fresh("import gpugrad") == ""
    assert fresh("import gpugrad as torch, gpugrad.nn, gpugrad.optim, gpugrad.utils.data") == ""
