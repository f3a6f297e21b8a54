"""The wheel: small, pure Python, with its kernels, its type marker, and nothing of the tests."""
from __future__ import annotations

import ast
import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from gpugrad.backend import compiled

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("hatchling", reason="builds the wheel with hatchling")


def built(folder, out):
    """The wheel of the pyproject.toml in a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    [path] = out.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def simulator_wheel(tmp_path_factory):
    return built(ROOT / "gpugrad/cudasim", tmp_path_factory.mktemp("dist_cudasim"))


@pytest.fixture(scope="module")
def hook():
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_name_and_size(wheel):
    assert re.fullmatch(r"gpugrad-[\w.]+-py3-none-any\.whl", wheel.name)
    assert wheel.stat().st_size < 1_000_000


class WithoutNotes(ast.NodeTransformer):
    """Takes away what the wheel may lack: docstrings and annotations in what has a private name,
    in an internal file all but the docstrings of its classes; annotations of local variables."""

    def __init__(self, internal):
        self.inside, self.internal, self.local = False, internal, False

    def visit_AnnAssign(self, node):
        if not self.local or node.value is None:
            return node
        return ast.Assign([node.target], node.value)

    def visit_Module(self, node):
        if self.internal and ast.get_docstring(node) is not None:
            del node.body[0]
        return self.generic_visit(node)

    def scope(self, node):
        before, function = self.inside, not isinstance(node, ast.ClassDef)
        self.inside |= (node.name.startswith("_") and not node.name.endswith("__")) \
            or (self.internal and function)
        if self.inside:
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                del node.body[0]
            if function:
                if node.returns and node.returns.lineno == node.returns.end_lineno:
                    node.returns = None
                for arg in ast.walk(node.args):
                    if isinstance(arg, ast.arg):
                        arg.annotation = None
        local, self.local = self.local, function
        self.generic_visit(node)
        self.inside, self.local = before, local
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = scope


def same_program(packed, source, internal=False):
    one, other = (WithoutNotes(internal).visit(ast.parse(text)) for text in (packed, source))
    return ast.dump(one) == ast.dump(other) and packed.count("\n") == source.count("\n")


def test_only_comments_and_notes_of_what_is_private_are_left_out(hook, wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        for name in sorted(names_in(wheel)):
            if name.endswith(".py"):
                packed, source = archive.read(name).decode(), (ROOT / name).read_text("utf-8")
                assert same_program(packed, source, bool(hook.INTERNAL.match(name))), name
        listed = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        for line in archive.read(listed).decode().splitlines():
            name, digest, size = line.rsplit(",", 2)
            if name != listed:
                content = archive.read(name)
                want = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (digest, size) == (f"sha256={want.rstrip('=')}", str(len(content)))
    assert archive.namelist()[-1] == listed


def test_lines_of_packed_python_are_those_of_the_source(hook):
    source = textwrap.dedent('''\
        """A module.

            Indented.
        """
        # A comment.
        class A:
            """Public."""

            def _b(self, x: list[
                    int] = """
          # no comment
        """, *é: str, **k: "-> x") -> dict[
                    int, str]:
                """Private."""
                def c(y: int = 1) -> int:
                    """Within it."""
                    return f"""{x
                        }
                    # no comment {1 +
            2}"""
                return (c(),   # one
                        "\\
            text", x +
                    1, __file__)

            def _only_text(self): """Its body."""
            def local(self):
                x: int = 1
                self.y: dict[str, int] = {}
                class Fields:
                    z: int = 2
            def __str__(self, other: int = 1) -> str:
                """Public."""
                if self: return "#"
                else:
                    return \\
                        ""
        ''')
    packed = hook.small_python(source.encode()).decode()
    assert same_program(packed, source)
    assert "# no comment" in packed and "# one" not in packed and len(packed) < len(source) - 100
    assert "Private" not in packed and "Within" not in packed
    assert packed.count('"""Public."""') == 2 and "Its body" in packed
    assert "x = 1" in packed and "self.y = {}" in packed and "z: int = 2" in packed
    assert "other: int = 1) -> str:" in packed and "c(y = 1):" in packed
    lines = packed.split("\n")
    for i, line in enumerate(source.split("\n")):
        bare = re.sub(r": (int|dict.*\]) =", " =", line)
        assert any(lines[i].strip() in text for text in (line, bare)) \
            or "*é, **k)" in lines[i] or "c(y" in line, i
    inner = hook.small_python(source.encode(), internal=True).decode()
    assert same_program(inner, source, internal=True) and inner.count("Public") == 1
    assert "A module" not in inner and "other = 1):" in inner


@pytest.mark.skipif(not shutil.which("g++"), reason="compares what g++ reads")
def test_compilers_read_the_same_code_without_comments(hook, wheel):
    tricky = ['char *a = "// text", *b = "\\"/*", c = \'"\'; /* don\'t', '"x" */ int d; // \'',
              "#define E 1 /* one */ + \\", "    2"]
    bare = ['char *a = "// text", *b = "\\"/*", c = \'"\';', "int d;", "#define E 1   + \\", "2"]
    assert hook.small_c("\n".join(tricky).encode()).decode().split("\n") == bare
    with zipfile.ZipFile(wheel) as outer, \
            zipfile.ZipFile(io.BytesIO(outer.read("gpugrad/_kernels.zip"))) as archive:
        for path in sorted((ROOT / "kernels").rglob("*.*")):
            name = path.relative_to(ROOT / "kernels").as_posix()
            packed = archive.read(name).decode()
            assert packed.count("\n") == path.read_text("utf-8").count("\n"), name
            assert "//" not in packed and "/*" not in packed, name
            both = [subprocess.run(["g++", "-fpreprocessed", "-dD", "-E", "-P", "-x", "c++", "-"],
                                   input=text, capture_output=True, text=True, check=True).stdout
                    for text in (packed, path.read_text("utf-8"))]
            assert both[0].split() == both[1].split(), name


def test_help_of_public_names_is_that_of_the_sources(wheel, tmp_path):
    """What has a docstring in the checkout has it in the wheel: all names of public modules."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = ("import importlib, sys, types\n"
            "for name in sys.argv[1:]:\n"
            "    module = importlib.import_module(name)\n"
            "    for key in sorted(set(dir(module))):\n"
            "        thing = getattr(module, key, None)\n"
            "        if key[0] == '_' or isinstance(thing, types.ModuleType):\n"
            "            continue\n"
            "        print(name, key, bool(getattr(thing, '__doc__', None)))\n"
            "        for part in sorted(vars(thing)) if isinstance(thing, type) else ():\n"
            "            print(name, key, part, part[0] != '_' and bool(getattr(\n"
            "                getattr(thing, part, None), '__doc__', None)))\n")
    names = ["gpugrad", *("gpugrad." + name for name in (
        "nn nn.functional nn.init nn.utils optim optim.lr_scheduler autograd autograd.functional "
        "autograd.graph func linalg fft special cuda amp distributions utils.data onnx random "
        "utils.checkpoint utils.safetensors utils.npz utils.dlpack utils.summary "
        "serialization vision vision.datasets vision.transforms backends.cuda testing").split())]
    found = [subprocess.run([sys.executable, "-c", code, *names], cwd=tmp_path, text=True,
                            env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True,
                            timeout=100, check=True).stdout.splitlines()
             for path in (tmp_path, ROOT)]
    assert len(found[0]) > 3000
    assert [a for a, b in zip(*found, strict=True) if a != b] == []


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(info).decode()
        with zipfile.ZipFile(io.BytesIO(archive.read("gpugrad/_kernels.zip"))) as inner:
            packed = inner.namelist()
    assert "gpugrad/py.typed" in names
    kernels = {path.relative_to(ROOT / "kernels").as_posix()
               for path in (ROOT / "kernels").rglob("*.[ch]*")}
    assert kernels == set(packed) and "cpu/threads.c" in kernels
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpugrad").rglob("*.py")}
    simulator = {name for name in sources if name.startswith("gpugrad/cudasim/")}
    assert sources - simulator <= names and not simulator & names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    strays = {name for name in names if not re.match(r"gpugrad/|gpugrad-[\w.]+\.dist-info/", name)}
    assert not strays and not any("__pycache__" in name for name in names)

    needs = re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)
    assert [need for need in needs if "extra ==" not in need] == ["numpy>=2.0"]
    extras = set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.M))
    assert {"cuda12", "cuda13", "cuda12x", "cuda13x", "examples", "sim", "test", "dev"} <= extras
    assert not [need for need in needs if need.startswith("cupy") and "<" in need]


def test_an_installed_wheel_works_away_from_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:       # a pure wheel is what lands in site-packages
        archive.extractall(tmp_path)
    code = ("import gpugrad as torch; from gpugrad.backend import kernel_files, kernels; "
            "print(torch.__file__); print(torch.ones(2, 3).sum().item()); "
            "print(kernel_files.place()); print(sorted(kernels.sources())); "
            "from gpugrad.backend import compiled; print(compiled.library() is not None)")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=100)
    assert run.returncode == 0, run.stderr
    where, total, place, files, helped = run.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path) and Path(place).is_relative_to(tmp_path)
    assert total == "6.0"
    assert "im2col" in files and "pool" in files
    assert helped == str(compiled.library() is not None)


def test_the_simulator_is_a_wheel_of_its_own(wheel, simulator_wheel):
    assert re.fullmatch(r"gpugrad_cudasim-[\w.]+-py3-none-any\.whl", simulator_wheel.name)
    assert simulator_wheel.name.split("-")[1] == wheel.name.split("-")[1]
    names = names_in(simulator_wheel)
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpugrad/cudasim").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts
             and path.name not in ("pyproject.toml", ".gitignore")}
    assert "gpugrad/cudasim/api.json" in files
    assert files == {name for name in names if ".dist-info/" not in name}
    assert not names & names_in(wheel)


def test_without_the_simulator_s_wheel_its_name_is_said(wheel, simulator_wheel, tmp_path):
    code = ("import gpugrad as torch\n"
            "try:\n"
            "    torch.cuda.simulate()\n"
            "except RuntimeError as e:\n"
            "    print(e)\n"
            "else:\n"
            "    print(torch.cuda.is_available())\n")

    def run():
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                              text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                              timeout=100, check=True).stdout

    zipfile.ZipFile(wheel).extractall(tmp_path)
    assert "pip install gpugrad-cudasim" in run()
    zipfile.ZipFile(simulator_wheel).extractall(tmp_path)
    assert "pip install gpugrad-cudasim" not in run()
