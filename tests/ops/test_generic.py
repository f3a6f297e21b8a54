"""Every op, driven by its record in op_db.py through the checks that all ops must pass."""
from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.ops import load

sys.path.insert(0, str(Path(__file__).parents[1]))
import op_db_activation
import op_db_fft
import op_db_functional
import op_db_implicit
import op_db_linalg
import op_db_loss
import op_db_losses2
import op_db_network
import op_db_pointwise
import op_db_recurrent
import op_db_reduction
import op_db_shape
import op_db_sort
from op_db import RECORDS, Case, Record

SPECS = load()

# importing them makes the records
assert all(m.record for m in (op_db_activation, op_db_fft, op_db_functional, op_db_implicit,
                              op_db_linalg, op_db_loss, op_db_losses2, op_db_network,
                              op_db_pointwise, op_db_recurrent, op_db_reduction, op_db_shape,
                              op_db_sort))

ALL = sorted(RECORDS)
DIFFERENTIABLE = [n for n in ALL if SPECS[n].diff and n not in op_db_pointwise.UNDEFINED]
IN_PLACE = [n for n in ALL if hasattr(T, n + "_")]
UNTIL = {"float64": 1e-12, "float32": 2e-5}


@pytest.fixture
def be(device: str) -> Any:
    return backend.get(device)


# Making arguments --------------------------------------------------------------------------------

def tensors_of(name: str, case: Case, be: Any, dtype: str = "float64", leaf: bool = False,
               change: Callable[[Any], Any] = lambda a: a) -> list[Tensor | None]:
    """The arguments of a case as tensors; those that have gradients require grad if ``leaf``."""
    spec, out = SPECS[name], []
    for i, a in enumerate(case.args):
        if a is None:
            out.append(None)
            continue
        t = wrap(change(be.from_host(a.astype(dtype) if a.dtype.kind == "f" else a)), be)
        i = min(i, len(spec.names) - 1)          # the last name may stand for several
        out.append(t.requires_grad_(leaf and i in spec.diff
                                    and (t.is_floating_point() or t.is_complex())))
    return out


def call(name: str, tensors: Any, case: Case) -> tuple[Tensor, ...]:
    out = getattr(T, name)(*tensors, **case.kw)
    return out if isinstance(out, tuple) else (out,)


def flat_call(name: str, case: Case, *tensors: Any) -> tuple[Tensor, ...]:
    """call, for the tensors to come last."""
    return call(name, tensors, case)


def leaves(tensors: Any) -> list[Tensor]:
    return [t for t in tensors if t is not None and t.requires_grad]


def live(outs: Any) -> list[Tensor]:
    return [t for t in outs if t.requires_grad]


def slopes(outs: Any) -> list[Tensor]:
    """A gradient for each result."""
    random = np.random.default_rng(1)
    return [wrap(t._be.from_host(random.standard_normal(t.shape).astype(t._a.dtype)),
                 t._be) for t in outs]


def host(t: Tensor) -> Any:
    return t._be.to_host(t._a)


def gradients(name: str, tensors: Any, case: Case, **kw: Any) -> list[Any]:
    """The gradients of the case's leaves, as arrays of the host."""
    outs = live(call(name, tensors, case))
    found = torch.autograd.grad(outs, leaves(tensors), slopes(outs), allow_unused=True, **kw)
    return [None if g is None else host(g.detach()) for g in found]


def recorded(name: str, be: Any) -> Iterator[tuple[Case, list[Any]]]:
    """The cases of an op that is recorded, with fresh leaves."""
    for case in RECORDS[name].samples():
        tensors = tensors_of(name, case, be, leaf=True)
        if leaves(tensors):
            yield case, tensors


def first_recorded(name: str, be: Any) -> tuple[Case, list[Any]]:
    """The first of them. Complex leaves are another file's."""
    found = next(recorded(name, be), None)
    return found or pytest.skip("its samples are complex")


def along_one_direction(tensors: Any, be: Any, elements: int = 20) -> bool:
    """How derivatives of a large case are checked on CUDA, where each element costs many launches;
    on the CPU each element of all cases is changed."""
    return be.name != "cpu" and sum(t.numel() for t in leaves(tensors)) > elements


def is_empty(name: str, tensors: Any, case: Case) -> bool:
    """Has a leaf or a result no elements?"""
    return not all(t.numel() for t in leaves(tensors) + live(call(name, tensors, case)))


def can_be_checked(name: str, tensors: Any, case: Case) -> bool:
    """By finite differences, which need elements and float64."""
    return not is_empty(name, tensors, case) and all(
        t.dtype in (torch.float64, torch.complex128) for t in live(call(name, tensors, case)))


def is_writable(t: Tensor) -> bool:
    return 0 not in t.stride() and getattr(t._a.flags, "writeable", True)


def function_of(name: str, case: Case) -> Callable[..., Any]:
    """The op as a function whose derivatives are those of differences."""
    if name in op_db_losses2.OF_LOG_SOFTMAX:
        return lambda a, *rest: call(name, (T.log_softmax(a, dim=2), *rest), case)
    if name not in op_db_linalg.HERMITIAN:
        return partial(flat_call, name, case)
    return lambda a: call(name, ((a + a.mH) / 2,), case)


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b, strict=True)


def every(names: list[str]) -> Any:
    return pytest.mark.parametrize("record", [RECORDS[n] for n in names if n in SPECS],
                                   ids=lambda r: r.name)


# The checks --------------------------------------------------------------------------------------

def test_every_op_has_a_record() -> None:
    assert set(SPECS) == set(RECORDS)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@every(ALL)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_value_dtype_and_device(record: Record, dtype: str, be: Any) -> None:
    if record.name in ("view_as_complex", "complex", "polar") and dtype == "float16":
        pytest.skip("there are no complex numbers of 32 bits")
    if record.name in op_db_linalg.PRECISE and dtype == "float16":
        pytest.skip("LAPACK has no half precision")
    for case in record.samples():
        outs = call(record.name, tensors_of(record.name, case, be, dtype), case)
        rounded = [a.astype(dtype).astype("float64") if a is not None and a.dtype.kind == "f" else a
                   for a in case.args]
        want = record.reference(*rounded, **case.kw)
        want = want if isinstance(want, tuple) else (want,)
        assert len(outs) == len(want)
        for k, (out, w) in enumerate(zip(outs, map(np.asarray, want))):
            assert out.device == be.device
            assert out.shape == w.shape
            if record.name == "max_pool2d" and k and be.name != "cpu":
                continue                    # positions in a form that suits the device
            if w.dtype.kind == "c":
                assert host(out).dtype.kind == "c"
            elif w.dtype.kind != "f":
                assert host(out).dtype == w.dtype
            elif any(a is not None and a.dtype.kind == "c" for a in case.args):
                assert host(out).dtype == w.dtype
            elif not (k and dtype == "float16" and host(out).dtype == "float32"):     # statistics
                assert host(out).dtype == case.kw.get("dtype", dtype)
            tolerance = UNTIL.get(dtype, record.tolerance)
            scale = max(1, np.abs(w[np.isfinite(w)]).max(initial=0)) if w.dtype.kind in "fc" else 0
            np.testing.assert_allclose(host(out), w, rtol=tolerance, atol=tolerance * scale)


@every(DIFFERENTIABLE)
def test_gradcheck(record: Record, be: Any) -> None:
    for case, tensors in recorded(record.name, be):
        if can_be_checked(record.name, tensors, case):
            assert gradcheck(function_of(record.name, case), tensors,
                             fast_mode=along_one_direction(tensors, be))


@every([n for n in DIFFERENTIABLE if RECORDS[n].smooth])
def test_gradgradcheck(record: Record, be: Any) -> None:
    for case, tensors in recorded(record.name, be):
        if can_be_checked(record.name, tensors, case):
            assert gradgradcheck(function_of(record.name, case), tensors, atol=1e-4,
                                 fast_mode=along_one_direction(tensors, be))


@every(DIFFERENTIABLE)
def test_gradients_of_empty_tensors(record: Record, be: Any) -> None:
    for case, tensors in recorded(record.name, be):
        if is_empty(record.name, tensors, case):
            for g, t in zip(gradients(record.name, tensors, case), leaves(tensors)):
                assert g is None or g.shape == t.shape


@every(ALL)
def test_arrays_and_tensors_give_the_same_bits(record: Record, be: Any) -> None:
    for case in record.samples():
        tensors = tensors_of(record.name, case, be)
        raw = getattr(be.raw, record.name)(*[None if t is None else t._a for t in tensors],
                                           **case.kw)
        outs = call(record.name, tensors, case)
        for a, t in zip(raw if len(outs) > 1 or isinstance(raw, tuple | list) else (raw,), outs):
            same(be.to_host(be.asarray(a)), host(t))


@every(DIFFERENTIABLE)
def test_rules_give_the_same_bits_at_both_levels(record: Record, be: Any) -> None:
    for case, tensors in recorded(record.name, be):
        for a, b in zip(gradients(record.name, tensors, case),
                        gradients(record.name, tensors, case, create_graph=True)):
            same(a, b)


def transposed(a: Any) -> Any:
    """The same values with the memory of the dims in the opposite order."""
    return a.T.copy().T


def strided(a: Any) -> Any:
    """The same values in every second place of the last dim."""
    if not a.ndim:
        return a
    out = a.repeat(2, -1)
    return out[..., ::2]


def expanded(a: Any) -> Any:
    """The values of index 0 of the first dim, for all of it, in one place."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim and type(a) is np.ndarray and a.shape[0] else a


@every(ALL)
@pytest.mark.parametrize("change", [transposed, strided, expanded])
def test_memory_layout_does_not_matter(record: Record, change: Any, be: Any) -> None:
    if record.name == "scatter" and change is expanded:
        pytest.skip("its positions must be distinct")
    if record.name == "view_as_complex":
        pytest.skip("its pairs must lie side by side")
    if record.name in op_db_linalg.PRECISE and change is expanded:
        pytest.skip("matrices of equal rows are singular")
    for case in record.samples():
        odd = tensors_of(record.name, case, be, leaf=True, change=change)
        plain = tensors_of(record.name, case, be, leaf=True, change=lambda a: be.copy(change(a)))
        for a, b in zip(call(record.name, odd, case), call(record.name, plain, case)):
            np.testing.assert_allclose(host(a.detach()), host(b.detach()), rtol=1e-12, atol=1e-14)
        if leaves(odd) and record.name in DIFFERENTIABLE:
            for a, b in zip(gradients(record.name, odd, case), gradients(record.name, plain, case)):
                if a is not None:
                    assert a.shape == b.shape
                    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@every(ALL)
def test_inputs_and_gradients_are_not_modified(record: Record, be: Any) -> None:
    for case in record.samples():
        tensors = tensors_of(record.name, case, be, leaf=True)
        kept = [None if t is None else be.copy(t._a) for t in tensors]
        outs = call(record.name, tensors, case)
        if live(outs) and record.name in DIFFERENTIABLE:
            gs = slopes(live(outs))
            before = [be.copy(g._a) for g in gs]
            results = [be.copy(t._a) for t in outs]
            for graph in (False, True):
                torch.autograd.grad(live(outs), leaves(tensors), gs, allow_unused=True,
                                    retain_graph=True,
                                    create_graph=graph)
            for g, b in zip(gs, before):
                same(host(g), be.to_host(b))
            for t, r in zip(outs, results):
                same(host(t.detach()), be.to_host(r))
        for t, k in zip(tensors, kept):
            if t is not None:
                same(host(t.detach()), be.to_host(k))


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@every(DIFFERENTIABLE)
def test_a_saved_tensor_that_was_changed_is_an_error(record: Record, be: Any) -> None:
    """Changed after the call, a tensor either makes backward raise, or has no part in it."""
    for case, _ in recorded(record.name, be):
        want = gradients(record.name, tensors_of(record.name, case, be, leaf=True), case)
        count = len([a for a in case.args if a is not None])
        outputs = len(call(record.name, tensors_of(record.name, case, be), case))
        for victim in range(count + outputs):
            tensors = tensors_of(record.name, case, be, leaf=True)
            used = [t if t is None or not t.requires_grad else t * 1 for t in tensors]
            outs = call(record.name, used, case)
            changed = [*[t for t in used if t is not None], *outs][victim]
            if not changed.numel() or not is_writable(changed):
                continue
            with torch.no_grad():
                changed.fill_(1) if changed.dtype == torch.bool else changed.zero_()
            cells = live(outs)[0].grad_fn.guard[:-1:2]
            try:
                found = torch.autograd.grad(live(outs), leaves(tensors), slopes(live(outs)),
                                            allow_unused=True)
            except RuntimeError as e:
                assert "modified by an inplace operation" in str(e)
                assert any(cell is changed._ver for cell in cells)
            else:
                assert not any(cell is changed._ver for cell in cells)
                for g, w in zip(found, want):
                    same(None if g is None else host(g), w)


@every(DIFFERENTIABLE)
def test_graphs_are_freed_by_reference_counts(record: Record, be: Any) -> None:
    case, tensors = first_recorded(record.name, be)
    gc.collect()
    gc.disable()
    try:
        used = [t if t is None or not t.requires_grad else t * 1 for t in tensors]
        outs = call(record.name, used, case)
        watched = [weakref.ref(v) for t in outs for v in (t, t._a)]
        watched.append(weakref.ref(live(outs)[0].grad_fn))
        watched += [weakref.ref(t) for t in used if t is not None and t.grad_fn is not None]
        found = torch.autograd.grad(live(outs), leaves(tensors), slopes(live(outs)),
                                    allow_unused=True,
                                    create_graph=True)
        del outs, used, found
        assert [r() for r in watched] == [None] * len(watched)
    finally:
        gc.enable()


@every(DIFFERENTIABLE)
def test_a_second_backward_is_an_error_if_anything_was_saved(record: Record, be: Any) -> None:
    case, tensors = first_recorded(record.name, be)
    outs = live(call(record.name, tensors, case))
    saved = bool(outs[0].grad_fn.guard)
    torch.autograd.grad(outs, leaves(tensors), slopes(outs), allow_unused=True)
    if saved:
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            torch.autograd.grad(outs, leaves(tensors), slopes(outs), allow_unused=True)
    else:
        torch.autograd.grad(outs, leaves(tensors), slopes(outs), allow_unused=True)


@every(DIFFERENTIABLE)
def test_no_history_without_grad_mode(record: Record, be: Any) -> None:
    for case, tensors in recorded(record.name, be):
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                for t in call(record.name, tensors, case):
                    assert not t.requires_grad and t.grad_fn is None
        assert live(call(record.name, tensors, case))


@every(IN_PLACE)
def test_in_place_equals_out_of_place(record: Record, be: Any) -> None:
    name = record.name
    for case in record.samples():
        tensors = tensors_of(name, case, be, leaf=True)
        first = tensors[0]
        assert first is not None
        outs = call(name, tensors, case)
        if outs[0].shape != first.shape:
            continue
        mine = [first * 1 if first.is_floating_point() else first.clone(), *tensors[1:]]
        target = mine[0]
        version = target._version
        got = getattr(T, name + "_")(*mine, **case.kw)
        assert got is target and target._version == version + 1
        same(host(got.detach()), host(outs[0].detach()).astype(host(got.detach()).dtype))
        if not live(outs) or name not in DIFFERENTIABLE:
            continue
        assert got.grad_fn.name() == outs[0].grad_fn.name()
        want = gradients(name, tensors, case)
        found = torch.autograd.grad([got], leaves(tensors), slopes([got]), allow_unused=True)
        for g, w in zip(found, want):
            same(None if g is None else host(g), w)


@pytest.mark.parametrize("record", [r for r in RECORDS.values() if r.bad and r.name in SPECS],
                         ids=lambda r: r.name)
def test_bad_inputs(record: Record, be: Any) -> None:
    for wrong in record.bad:
        if wrong.error is IndexError and be.name != "cpu":
            continue            # values are not looked at: the host would have to wait
        tensors = [None if a is None else wrap(be.from_host(a), be) for a in wrong.args]
        with pytest.raises(wrong.error) as error:
            getattr(T, record.name)(*tensors, **wrong.kw)
        assert wrong.text in str(error.value)


def test_backward_through_floor_divide_is_an_error() -> None:
    y = torch.ones(2, requires_grad=True) // 2
    with pytest.raises(RuntimeError, match="derivative for aten::floor_divide is not implemented"):
        y.sum().backward()
