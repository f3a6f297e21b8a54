"""torch.onnx: models written as ONNX files, by tracing. docs/onnx.md says what can be exported."""
from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any


class OperatorExportTypes(Enum):
    """How exported operators are written, in PyTorch."""

    ONNX = 0
    ONNX_ATEN = 1
    ONNX_ATEN_FALLBACK = 2
    RAW = 3
    ONNX_FALLTHROUGH = 4


class TrainingMode(Enum):
    """In which mode a model is exported."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


_exporting = False


def is_in_onnx_export() -> bool:
    """Whether ``export`` is running the model."""
    return _exporting


class ONNXProgram:
    """An exported model."""

    def __init__(self, data: bytes, kinds: list[str]) -> None:
        self.data, self.operators = data, kinds

    def save(self, destination: Any) -> None:
        """Write the file: to a path, where the old file stays until the new one is whole, or to an
        open file."""
        from gpugrad.serialization.writing import replacement

        if isinstance(destination, str | os.PathLike):
            with replacement(os.fsdecode(destination)) as file:
                file.write(self.data)
        else:
            destination.write(self.data)

    def __repr__(self) -> str:
        return f"ONNXProgram({len(self.data)} bytes, operators {', '.join(self.operators)})"


def export(model: Any, args: Any = (), f: Any = None, *, kwargs: dict[str, Any] | None = None,
           input_names: Any = None, output_names: Any = None, opset_version: int | None = None,
           dynamic_axes: Any = None, dynamic_shapes: Any = None,
           training: TrainingMode = TrainingMode.EVAL, export_params: bool = True,
           keep_initializers_as_inputs: bool = False, custom_opsets: Any = None,
           custom_translation_table: Any = None, **ignored: Any) -> ONNXProgram:
    """Write a model as ONNX: its operators as they run on ``args``, tensors on the CPU.

    The model runs two or three times, in evaluation mode: with args, and with other numbers and
    other sizes of the dynamic axes, to tell what depends on the inputs. Parameters keep their
    names.

    Args:
        model: a Module, or a function of tensors.
        args: a tensor, or a tuple of the model's arguments; tensors in tuples, lists and dicts are
            inputs of the graph, other objects stay as they are.
        f: a path or an open file; None to write later, by the result's ``save``.
        dynamic_axes: {input name: {axis: name}} or {input name: [axes]}; those of one name and one
            size are one size. Axes of the outputs follow from them.
        opset_version: 17 to 21, 18 by default.

    Raises NotImplementedError naming the operation that has no counterpart, or that depends on
    numbers in a way that a graph can't. Arguments that only matter to PyTorch's own exporter
    (dynamo, verbose, do_constant_folding, external_data, optimize...) are accepted without effect.
    """
    opset = 18 if opset_version is None else opset_version
    if not 17 <= opset <= 21:
        raise ValueError(f"torch.onnx.export: opset_version must be from 17 to 21, not {opset}")
    for name, value, plain in (("export_params", export_params, True),
                               ("keep_initializers_as_inputs", keep_initializers_as_inputs, False),
                               ("custom_opsets", custom_opsets or None, None),
                               ("custom_translation_table", custom_translation_table or None,
                                None)):
        if value is not plain:
            raise NotImplementedError(f"torch.onnx.export({name}={value!r}) is not supported: "
                                      "leave it out")
    unknown = ignored.keys() - _WITHOUT_EFFECT
    if unknown:
        raise TypeError("export() got an unexpected keyword argument "
                        f"{min(unknown)!r}")
    args = tuple(args) if isinstance(args, tuple | list) else (args,)
    modes = [(m, m.training) for m in model.modules()] if hasattr(model, "modules") else []
    if modes and training is not TrainingMode.PRESERVE:
        model.train(training is TrainingMode.TRAINING)
    try:
        program = _export(model, args, dict(kwargs or {}), input_names, output_names, opset,
                          dynamic_axes, dynamic_shapes)
    finally:
        for m, was in modes:
            m.training = was
    if f is not None:
        program.save(f)
    return program


_WITHOUT_EFFECT = set(
    "verbose dynamo external_data report optimize verify profile dump_exported_program "
    "artifacts_dir operator_export_type do_constant_folding export_modules_as_functions "
    "autograd_inlining fallback".split())


def _export(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], input_names: Any,
            output_names: Any, opset: int, dynamic_axes: Any, dynamic_shapes: Any) -> ONNXProgram:
    import numpy as np

    from gpugrad import version
    from gpugrad._tensor import Tensor, wrap
    from gpugrad.autograd.grad_mode import no_grad
    from gpugrad.onnx import layers, losses, protobuf
    from gpugrad.onnx.graph import Graph
    from gpugrad.onnx.trace import Refused, place, trace

    tensors, paths = _flatten(args, kwargs, Tensor)
    if any(not t.is_cpu for t in tensors):
        raise Refused("the inputs must be on the CPU, and the model too")
    names = _input_names(model, paths, list(input_names or ()))
    axes = _axes(names, paths, tensors, dynamic_axes, dynamic_shapes)

    def run_model(arrays: list[Any]) -> Any:
        global _exporting
        given = iter([wrap(a) for a in arrays])
        new_args, new_kwargs = _rebuilt((args, kwargs), given, Tensor)
        _exporting = True
        try:
            with no_grad():
                result = model(*new_args, **new_kwargs)
        finally:
            _exporting = False
        return _flatten((result,), {}, Tensor)[0], result

    first = [np.array(t._a) for t in tensors]
    with np.errstate(all="ignore"):
        run, outs, _ = trace(run_model, [a.copy() for a in first])
        runs, outputs = [run], [outs]
        labels = _other_runs(run_model, first, axes, runs, outputs)
    if len({len(o) for o in outputs}) > 1 or not outputs[0]:
        raise Refused("the model must return tensors, as many for all inputs")
    n = len(outputs[0])
    given = list(output_names or ())
    if len(given) > n:
        raise ValueError(f"torch.onnx.export: {len(given)} output_names for {n} outputs")
    out_names = given + [f"output_{i}" if n > 1 else "output" for i in range(len(given), n)]
    reserved = {*names, *out_names}
    if len(reserved) < len(names) + n or "" in reserved:
        raise ValueError("torch.onnx.export: inputs and outputs need names, each its own, not "
                         f"{names} and {out_names}")
    parameters = {}
    if hasattr(model, "named_parameters"):
        for name, t in [*model.named_parameters(), *model.named_buffers()]:
            while name in reserved:
                name += "_"
            reserved.add(name)
            if t._a.size:
                parameters[place(t._a)] = name, t._a
    graph = Graph(runs, names, [(names[i], axis, sizes, label)
                                for i, axis, sizes, label in labels], parameters, opset, reserved)
    graph.translate({**layers.TABLE, **losses.TABLE})
    body = graph.bytes("main_graph", names,
                       list(zip(out_names, map(list, zip(*outputs, strict=True)), strict=True)))
    data = protobuf.model(body, opset, str(version.__version__))
    if len(data) >= 1 << 31:
        raise RuntimeError("torch.onnx.export: the model is larger than the 2 GiB that a protobuf "
                           "file may have")
    return ONNXProgram(data, sorted(graph.kinds))


def _other_runs(run_model: Any, first: list[Any], axes: Any, runs: list[Any],
                outputs: list[Any]) -> Any:
    """Run the model with other numbers and sizes; the dynamic axes with their sizes in all runs.

    A model may not take all sizes: it may want multiples of one, or have a largest.
    """
    import itertools

    import numpy as np

    from gpugrad.onnx.trace import Refused, other_numbers, trace

    failed: Any = None
    many = len({label for found in axes for label in found.values()})
    plans = sorted(itertools.product(range(3), repeat=min(many, 4)), key=lambda p: len(set(p)))
    for plan in plans:
        labels, rng = _labels(axes, first, plan), np.random.default_rng(0)
        if any(min(sizes[1:]) < 1 for _, _, sizes, _ in labels):
            continue
        found: list[Any] = []
        for k in range(1, 3 if labels else 2):
            shapes = [list(a.shape) for a in first]
            for i, axis, sizes, _ in labels:
                shapes[i][axis] = sizes[k]
            try:
                found.append(trace(run_model, [other_numbers(a, tuple(n), rng)
                                               for a, n in zip(first, shapes)])[:2])
            except NotImplementedError:
                raise
            except Exception as error:
                failed = failed or (shapes, error)
                break
        else:
            runs += [run for run, _ in found]
            outputs += [outs for _, outs in found]
            return labels
    shapes, why = failed
    raise Refused("the model fails with other numbers, or other sizes of the dynamic axes, for "
                  f"shapes {shapes}: {type(why).__name__}: {why}") from why


# Arguments ----------------------------------------------------------------------------------------

def _flatten(args: Any, kwargs: Any, kind: type) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """The tensors in nested containers, and the way to each."""
    tensors: list[Any] = []
    paths: list[tuple[Any, ...]] = []

    def visit(x: Any, path: tuple[Any, ...]) -> None:
        if isinstance(x, kind):
            tensors.append(x)
            paths.append(path)
        elif isinstance(x, tuple | list):
            for i, v in enumerate(x):
                visit(v, (*path, i))
        elif isinstance(x, Mapping):
            for k, v in x.items():
                visit(v, (*path, k))
    for i, v in enumerate(args):
        visit(v, (i,))
    visit(kwargs, ())
    return tensors, paths


def _rebuilt(x: Any, given: Any, kind: type) -> Any:
    """The containers again, with other tensors."""
    if isinstance(x, kind):
        return next(given)
    if isinstance(x, tuple | list):
        parts = [_rebuilt(v, given, kind) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return type(x)({k: _rebuilt(v, given, kind) for k, v in x.items()})
    return x


def _input_names(model: Any, paths: Any, given: list[str]) -> list[str]:
    """What the inputs are called: as given, then as the model's parameters are."""
    if len(given) > len(paths):
        raise ValueError(f"torch.onnx.export: {len(given)} input_names for {len(paths)} inputs")
    try:
        signature = list(inspect.signature(getattr(model, "forward", model)).parameters)
    except (TypeError, ValueError):
        signature = []
    names = list(given)
    for path in paths[len(names):]:
        head, *rest = path
        if isinstance(head, int):
            head = signature[head] if head < len(signature) else f"input_{head}"
        name = "_".join(map(str, (head, *rest)))
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _axes(names: list[str], paths: Any, tensors: list[Any], dynamic_axes: Any,
          dynamic_shapes: Any) -> list[dict[int, str]]:
    """For each input its dynamic axes and what they are called."""
    found: list[dict[int, str]] = [{} for _ in names]
    for name, axes in (dynamic_axes or {}).items():
        if name in names:                        # those of outputs follow from the inputs'
            pairs = axes if isinstance(axes, Mapping) else {a: f"{name}_dim_{a}" for a in axes}
            found[names.index(name)].update(pairs)
    if dynamic_shapes is not None:
        for i, path in enumerate(paths):
            spec: Any = dynamic_shapes
            if isinstance(spec, Mapping):
                spec = spec.get(names[i], {}) if names[i] in spec else spec.get(path[0], {})
            else:
                for step in path:
                    spec = spec[step]
            pairs = spec if isinstance(spec, Mapping) else dict(enumerate(spec or ()))
            found[i].update({a: getattr(d, "__name__", d) if not isinstance(d, Enum)
                             else f"{names[i]}_dim_{a}" for a, d in pairs.items()
                             if d is not None and not isinstance(d, int)})
    out = []
    for name, t, axes in zip(names, tensors, found):
        bad = [a for a in axes if not -t.dim() <= a < t.dim()]
        if bad:
            raise ValueError(f"torch.onnx.export: {name} of shape {list(t.shape)} has no axis "
                             f"{bad[0]} that could be dynamic")
        out.append({a % t.dim(): str(label) for a, label in axes.items()})
    return out


def _labels(axes: list[dict[int, str]], arrays: list[Any],
            plan: tuple[int, ...]) -> list[tuple[int, int, tuple[int, ...], str]]:
    """(input, axis, sizes in the runs, label); ``plan``: of each label whether its sizes are
    multiplied, grow or shrink. Those of two labels are no linear function of each other."""
    groups: dict[tuple[str, int], int] = {}
    out: list[tuple[int, int, tuple[int, ...], str]] = []
    for i, found in enumerate(axes):
        for axis, label in sorted(found.items()):
            n = int(arrays[i].shape[axis])
            k = groups.setdefault((label, n), len(groups))
            m, how = max(n, 1), plan[min(k, len(plan) - 1)]
            step = (m, 1, -1)[how]
            out.append((i, axis, (n, m + step, m + (2 + k) * step), label))
    return out


dynamo_export = export


def register_custom_op_symbolic(*args: Any, **kwargs: Any) -> None:
    """Without effect: operators are translated as docs/onnx.md says."""
