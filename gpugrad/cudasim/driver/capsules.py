"""Puts Python functions in the place of an extension module's, for C callers and for Python.

Cython modules call one another by addresses that they find, when they are imported, in the capsules
of ``module.__pyx_capi__``; a capsule's name is the function's signature. A few lines of C for each
function make a call from C one of a Python function.
"""
from __future__ import annotations

import atexit
import ctypes
import importlib
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpugrad.cudasim.compiler import run_compiler

# Parameters by their type in a signature: the type in C, and its letter for PyObject_CallFunction.
_PARAMETERS = {"intptr_t": ("long", "l"), "uintmax_t": ("unsigned long", "k"),
               "size_t": ("unsigned long", "k"), "int": ("int", "i"), "CUdevice": ("int", "i"),
               "unsigned int": ("unsigned", "I"), "PyObject *": ("PyObject*", "O"),
               "cudaMemcpyKind": ("int", "i")}
# Results: the type in C, how it is made of a Python object, what says that there is an exception.
_RESULTS = {"PyObject *": ("PyObject*", "r", "0"),
            "intptr_t": ("long", "PyLong_AsLong(r)", "0"),
            "uintmax_t": ("unsigned long", "PyLong_AsUnsignedLong(r)", "0"),
            "size_t": ("unsigned long", "PyLong_AsUnsignedLong(r)", "-1"),
            "int": ("int", "(int) PyLong_AsLong(r)", "-1"),
            "unsigned int": ("unsigned", "(unsigned) PyLong_AsLong(r)", "-1"),
            "float": ("float", "(float) PyFloat_AsDouble(r)", "-1")}
_HEAD = """typedef struct _object PyObject;
extern "C" {
PyObject* PyObject_CallFunction(PyObject*, const char*, ...);
long PyLong_AsLong(PyObject*);
unsigned long PyLong_AsUnsignedLong(PyObject*);
double PyFloat_AsDouble(PyObject*);
void Py_IncRef(PyObject*);
void Py_DecRef(PyObject*);
extern long _Py_NoneStruct;
int ending, leaving_out;
static PyObject* none() {
    Py_IncRef((PyObject*) &_Py_NoneStruct);
    return (PyObject*) &_Py_NoneStruct;
}
int PyGILState_Ensure();
void PyGILState_Release(int);
"""
_kept: list[Any] = []           # what C calls lives as long as the process


def replace(name: str, functions: dict[str, Any], quick: Sequence[str] = ()) -> None:
    """Let the functions of an extension module be those of the same names in ``functions``.

    Those that it has not raise NotImplementedError; so do those that pass structs by value, but
    for callers in C, which get the module's own. quick: those that leave_out makes do nothing.
    """
    module = importlib.import_module(name)
    text: list[str] = []
    taken: list[tuple[str, Any, Any]] = []
    for function, capsule in module.__pyx_capi__.items():
        signature = re.search('"(.*?) ?\\((.*)\\)"', repr(capsule))
        if signature is None:
            continue                                # a variable
        call = functions.get(function) or _absent(f"{name}.{function}")
        c = _in_c(len(taken), signature[1], signature[2], function in quick)
        if c:
            text.append(c)
            taken.append((function, capsule, call))
    library = _compiled(text)
    table: Any = (ctypes.py_object * len(taken)).in_dll(library, "called")
    set_pointer: Any = ctypes.pythonapi.PyCapsule_SetPointer
    set_pointer.argtypes = [ctypes.py_object, ctypes.c_void_p]
    for i, (function, capsule, call) in enumerate(taken):
        table[i] = call
        set_pointer(capsule, ctypes.cast(getattr(library, f"f{i}"), ctypes.c_void_p).value)
        setattr(module, function, call)
    # What is destroyed when Python has ended calls nothing any more.
    atexit.register(setattr, ctypes.c_int.in_dll(library, "ending"), "value", 1)
    _kept.append((library, taken))


def _absent(name: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        raise NotImplementedError(f"{name} on the simulated device")
    return call


def leave_out(on: bool) -> None:
    """Let the quick functions do nothing, and return None or 0 at once, for callers in C."""
    for library, _ in _kept:
        ctypes.c_int.in_dll(library, "leaving_out").value = on


def _in_c(i: int, result: str, parameters: str, quick: bool) -> str:
    """Function ``f<i>``, which calls object i of the table; "" if its types aren't known."""
    if result not in _RESULTS:
        return ""
    declared, letters, given = [], "", ""
    for j, parameter in enumerate(p.strip() for p in parameters.split(",")):
        if parameter == "int __pyx_skip_dispatch":
            declared.append("int")
        elif "__pyx_opt_args" in parameter:         # {how many are given, the first of them}
            declared.append(f"int* a{j}")
            letters += "i"
            given += f", a{j} && a{j}[0] ? a{j}[1] : 0"
        elif parameter in _PARAMETERS:
            kind, letter = _PARAMETERS[parameter]
            declared.append(f"{kind} a{j}")
            letters += letter
            given += f", a{j}"
        elif parameter != "void":
            return ""
    kind, value, failed = _RESULTS[result]
    drop, end = ("", "none()") if value == "r" else (" Py_DecRef(r);", "0")
    at_once = "ending || leaving_out" if quick else "ending"
    return (f"{kind} f{i}({', '.join(declared)}) {{ if ({at_once}) return {end}; "
            f"int g = PyGILState_Ensure(); "
            f"PyObject* r = PyObject_CallFunction(called[{i}], \"({letters})\"{given}); "
            f"{kind} v = ({kind}) {failed}; if (r) {{ v = {value};{drop} }} "
            f"PyGILState_Release(g); return v; }}\n")


def _compiled(functions: list[str]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "calls.cpp", Path(folder) / "calls.so"
        source.write_text(f"{_HEAD}PyObject* called[{len(functions)}];\n{''.join(functions)}}}\n")
        run_compiler(["-O1", "-w", "-shared", "-fPIC", str(source), "-o", str(library)])
        return ctypes.CDLL(str(library))
