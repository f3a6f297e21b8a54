"""torch.autograd.functional: Jacobians, Hessians and their products with vectors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._state import state
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import engine
from gpugrad.autograd.grad_mode import enable_grad, set_grad_enabled
from gpugrad.autograd.rules import tensors as T

Function = Callable[..., Any]
Tensors = tuple[Tensor, ...]

# Arguments and results ---------------------------------------------------------------------------


def _as_tuple(x: Any, what: str, name: str) -> tuple[bool, Tensors]:
    """(was x a tuple?, x as a tuple of tensors)."""
    several = isinstance(x, tuple)
    values = x if several else (x,)
    for i, v in enumerate(values):
        if not isinstance(v, Tensor):
            which = f"value at index {i}" if several else f"given {what}"
            raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of "
                            f"Tensors but the {which} has type {type(v)}.")
    return several, values


def _as_given(values: Any, several: bool) -> Any:
    return tuple(values) if several else values[0]


def _prepared(inputs: Tensors, create_graph: bool, need_graph: bool) -> Tensors:
    """Other tensors of the same values, that require grad, or go on the inputs' history."""
    return tuple([T.alias(x) if create_graph and x.requires_grad else
                  x.detach().requires_grad_(need_graph) for x in inputs])


def _finished(values: Any, create_graph: bool) -> Any:
    """The results without history, unless that was asked for; tuples of tuples, too."""
    if create_graph:
        return values
    return tuple([_finished(v, False) if isinstance(v, tuple) else v.detach() for v in values])


def _check_vector(v: Tensors, other: Tensors, several: bool) -> None:
    """The vectors must have the shapes of what they are multiplied with."""
    if several and len(v) != len(other):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(other)} but got "
                           f"{len(v)}.")
    if not several and len(v) != 1:
        raise RuntimeError("The given v should contain a single Tensor.")
    for i, (a, b) in enumerate(zip(v, other)):
        if a.shape != b.shape:
            entry = f"Entry {i} in " if several else ""
            raise RuntimeError(f"{entry}v has invalid size: should be {b.shape} but got {a.shape}.")


def _vector(v: Any, other: Tensors, several: bool, name: str, create_graph: bool,
            what: str) -> tuple[Any, ...]:
    """v as a tuple; None, which will do for one number, as (None,)."""
    if v is None:
        if len(other) != 1 or other[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {what} a single Tensor with a "
                               "single element.")
        return (None,)
    given = _prepared(_as_tuple(v, "v", name)[1], create_graph, False)
    _check_vector(given, other, several)
    return given


IN_STRICT_MODE = "This is not allowed in strict mode."
OF_A_HESSIAN = (f"{IN_STRICT_MODE} You should ensure that your function is %s and that the %s "
                "depends on the inputs%s.")
INDEPENDENT = {
    "outputs": "Output {i} of the user-provided function does not require gradients. The outputs "
               "must be computed in a differentiable manner from the input when running in strict "
               "mode.",
    "grad_inputs": "The gradient with respect to input {i} is independent of the inputs of the "
                   f"user-provided function. {IN_STRICT_MODE}",
    "jacobian": "While computing the hessian, found that the jacobian of the user-provided "
                "function with respect to input {i} is independent of the input. "
                + OF_A_HESSIAN % ("twice differentiable", "jacobian",
                                  " (this would be violated by a linear function for example)"),
    "hessian": "While computing the hessian, found that the hessian of the user-provided function "
               "with respect to input {i} is independent of the input. "
               + OF_A_HESSIAN % ("thrice differentiable", "hessian",
                                 " (this would be violated by a quadratic function for example)"),
}


def _check_dependent(values: Any, kind: str, strict: bool) -> None:
    """In strict mode everything must depend on the inputs."""
    if not strict:
        return
    for i, v in enumerate(values):
        if v is None:
            raise RuntimeError("The output of the user-provided function is independent of input "
                               f"{i}. {IN_STRICT_MODE}")
        if not v.requires_grad:
            raise RuntimeError(INDEPENDENT[kind].format(i=i))


# Differentiating ---------------------------------------------------------------------------------


def _gradients(outputs: Any, inputs: Any, v: Any, create_graph: bool = False,
               keep: bool = False) -> tuple[Any, ...]:
    """grad() of the outputs that have a history; None for what doesn't depend on an input."""
    v = v if v is not None else (None,) * len(outputs)
    live = [(y, g) for y, g in zip(outputs, v) if y is not None and y.requires_grad]
    if not live:
        return (None,) * len(inputs)
    return engine.grad([y for y, _ in live], inputs, [g for _, g in live], allow_unused=True,
                       create_graph=create_graph, retain_graph=create_graph or keep)


ZEROS = {"back": "The output of the user-provided function is independent of input {i}.",
         "back_trick": "The gradient with respect to the input is independent of entry {i} in the "
                       "grad_outputs when using the double backward trick to compute forward mode "
                       "gradients.",
         "double_back": "The jacobian of the user-provided function is independent of input {i}.",
         "double_back_trick": "The hessian of the user-provided function is independent of entry "
                              "{i} in the grad_jacobian."}


def _with_zeros(found: Any, like: Tensors, strict: bool, create_graph: bool, stage: str) -> Tensors:
    """Zeros in place of None: in strict mode an error."""
    out = []
    for i, (g, x) in enumerate(zip(found, like)):
        if g is None and strict:
            raise RuntimeError(f"{ZEROS[stage].format(i=i)} {IN_STRICT_MODE}")
        if strict and create_graph and not g.requires_grad:
            later = ZEROS["double_" + stage] if "double" not in stage else ZEROS[stage]
            raise RuntimeError(f"{later.format(i=i)} This is not allowed in strict mode when "
                               "create_graph=True.")
        out.append(_zeros(x) if g is None else g)
    return tuple(out)


def _zeros(x: Tensor) -> Tensor:
    return wrap(x._be.xp.zeros(x._a.shape, x._a.dtype), x._be)


def _run(func: Function, inputs: Tensors, name: str, strict: bool) -> tuple[bool, Tensors]:
    several, outputs = _as_tuple(func(*inputs), "outputs of the user-provided function", name)
    _check_dependent(outputs, "outputs", strict)
    return several, outputs


def _second(create_graph: bool) -> Any:
    """The grad mode in which the last gradients are taken."""
    return set_grad_enabled(True if create_graph else state.grad)


# Products ----------------------------------------------------------------------------------------


def vjp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> Any:
    """(func(inputs), v times its Jacobian).

    v: as the outputs; None will do for one number. create_graph: the results can be differentiated.
    strict: an error if an output doesn't depend on an input, in place of zeros.
    """
    many, given = _as_tuple(inputs, "inputs", "vjp")
    with enable_grad():
        given = _prepared(given, create_graph, True)
        several, outputs = _run(func, given, "vjp", strict)
        vector = _vector(v, outputs, several, "vjp", create_graph,
                         "the user-provided function returns")
    with _second(create_graph):
        found = _gradients(outputs, given, vector, create_graph)
        product = _with_zeros(found, given, strict, create_graph, "back")
    return (_as_given(_finished(outputs, create_graph), several),
            _as_given(_finished(product, create_graph), many))


def jvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> Any:
    """(func(inputs), its Jacobian times v), by going backward twice.

    The gradient is linear in the gradient that backward starts with; its own gradient with respect
    to that is the product.
    """
    many, given = _as_tuple(inputs, "inputs", "jvp")
    with enable_grad():
        given = _prepared(given, create_graph, True)
        vector = _vector(v, given, many, "jvp", create_graph,
                         "the input to the user-provided function is")
        several, outputs = _run(func, given, "jvp", strict)
        start = tuple([_zeros(y).requires_grad_() for y in outputs])
        back = _gradients(outputs, given, start, create_graph=True)
        _check_dependent(back, "grad_inputs", strict)
    with _second(create_graph):
        found = _gradients(back, start, vector, create_graph)
        product = _with_zeros(found, outputs, strict, create_graph, "back_trick")
    return (_as_given(_finished(outputs, create_graph), several),
            _as_given(_finished(product, create_graph), several))


def _one_number(values: tuple[bool, Tensors], name: str) -> Tensors:
    several, outputs = values
    if several:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a "
                           "single element")
    return outputs


def vhp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> Any:
    """(func(inputs), which is one number, v times its Hessian)."""
    many, given = _as_tuple(inputs, "inputs", "vhp")
    with enable_grad():
        given = _prepared(given, create_graph, True)
        vector = _vector(v, given, many, "vhp", create_graph,
                         "the input to the user-provided function is")
        outputs = _one_number(_run(func, given, "vhp", strict), "vhp")
        jac = _gradients(outputs, given, None, create_graph=True)
        _check_dependent(jac, "jacobian", strict)
    with _second(create_graph):
        found = _gradients(jac, given, vector, create_graph)
        product = _with_zeros(found, given, strict, create_graph, "double_back")
    return (_as_given(_finished(outputs, create_graph), False),
            _as_given(_finished(product, create_graph), many))


def hvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False,
        strict: bool = False) -> Any:
    """(func(inputs), which is one number, its Hessian times v), by going backward twice.

    vhp() gives the same, since the Hessian is symmetric, with less work.
    """
    many, given = _as_tuple(inputs, "inputs", "hvp")
    with enable_grad():
        given = _prepared(given, create_graph, True)
        vector = _vector(v, given, many, "hvp", create_graph,
                         "the input to the user-provided function is")
        outputs = _one_number(_run(func, given, "hvp", strict), "hvp")
        jac = _gradients(outputs, given, None, create_graph=True)
        _check_dependent(jac, "jacobian", strict)
        start = tuple([_zeros(x).requires_grad_() for x in given])
        back = _gradients(jac, given, start, create_graph=True)
        _check_dependent(back, "hessian", strict)
    with _second(create_graph):
        found = _gradients(back, start, vector, create_graph)
        product = _with_zeros(found, given, strict, create_graph, "double_back_trick")
    return (_as_given(_finished(outputs, create_graph), False),
            _as_given(_finished(product, create_graph), many))


# Whole matrices ----------------------------------------------------------------------------------


def _check_strategy(strategy: str, vectorize: bool, strict: bool, name: str) -> None:
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". '
                             'Hint: If your function has more outputs than inputs, "forward-mode" '
                             'tends to be more performant. Otherwise, prefer to use '
                             '"reverse-mode".')
    if vectorize and strict:
        raise RuntimeError(f"torch.autograd.functional.{name}: `strict=True` and "
                           "`vectorized=True` are not supported together. Please either set "
                           "`strict=False` or `vectorize=False`.")
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse "
                                  "Hessian is only implemented for `vectorize=True`: gpugrad "
                                  "computes both by going backward")


def _rows(y: Tensor, given: Tensors, create_graph: bool, strict: bool, i: int) -> Tensors:
    """The derivatives of all elements of an output, one backward for each."""
    n = y.numel()
    rows: list[list[Tensor]] = [[] for _ in given]
    for j in range(n):
        unit = _zeros(y)
        unit._a.reshape(-1)[j] = 1
        found = _gradients((y,), given, (unit,), create_graph, keep=True)
        for k, (g, x) in enumerate(zip(found, given)):
            if g is None and strict:
                raise RuntimeError(f"Output {i} of the user-provided function is independent of "
                                   f"input {k}. {IN_STRICT_MODE}")
            if strict and create_graph and not g.requires_grad:
                raise RuntimeError("The jacobian of the user-provided function is independent of "
                                   f"input {k}. This is not allowed in strict mode when "
                                   "create_graph=True.")
            rows[k].append(_zeros(x) if g is None else g)
    return tuple([T.reshape(T.stack(*row), (*y._a.shape, *x._a.shape)) if n else
                  wrap(x._be.xp.zeros((*y._a.shape, *x._a.shape), x._a.dtype), x._be)
                  for row, x in zip(rows, given)])


def jacobian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False,
             vectorize: bool = False, strategy: str = "reverse-mode") -> Any:
    """The derivatives of all outputs with respect to all inputs.

    For one output and one input a tensor of the output's shape followed by the input's; for tuples
    of them a tuple over the outputs of tuples over the inputs. vectorize and strategy don't change
    what is computed, nor how.
    """
    _check_strategy(strategy, vectorize, strict, "jacobian")
    many, given = _as_tuple(inputs, "inputs", "jacobian")
    with enable_grad():
        given = _prepared(given, create_graph, True)
        several, outputs = _run(func, given, "jacobian", strict)
        rows = tuple([_rows(y, given, create_graph, strict, i) for i, y in enumerate(outputs)])
    done = [_as_given(row, many) for row in _finished(rows, create_graph)]
    return _as_given(done, several)


def hessian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False,
            vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The second derivatives of a function of one number with respect to all pairs of inputs."""
    _check_strategy(outer_jacobian_strategy, vectorize, strict, "hessian")
    many, given = _as_tuple(inputs, "inputs", "hessian")

    def slope(*values: Tensor) -> Any:
        def number(*args: Tensor) -> Tensor:
            return _one_number(_as_tuple(func(*args), "outputs of the user-provided function",
                                         "hessian"), "hessian")[0]
        found = jacobian(number, values, create_graph=True)
        shaped = tuple([T.reshape(g, x._a.shape) for g, x in zip(found, values)])
        _check_dependent(shaped, "jacobian", strict)
        return shaped
    found = jacobian(slope, given, create_graph=create_graph, strict=strict, vectorize=vectorize,
                     strategy=outer_jacobian_strategy)
    return found if many else found[0][0]
