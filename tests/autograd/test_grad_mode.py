"""no_grad, enable_grad, set_grad_enabled and inference_mode."""

from __future__ import annotations

import threading

import pytest

import gpugrad as torch


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


@pytest.fixture(autouse=True)
def modes_are_left_as_they_were():
    yield
    left = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    torch.set_grad_enabled(True)
    assert left == (True, False)


# no_grad, enable_grad ----------------------------------------------------------------------------


def test_no_grad_records_nothing():
    x = leaf()
    with torch.no_grad():
        y = x * 2
        assert (
            not torch.is_grad_enabled() and not y.requires_grad and y.is_leaf and y.grad_fn is None
        )
    assert torch.is_grad_enabled() and (x * 2).requires_grad


def test_enable_grad_inside_no_grad():
    x = leaf()
    with torch.no_grad():
        with torch.enable_grad():
            y = x * 2
        z = x * 2
    assert y.requires_grad and not z.requires_grad


@pytest.mark.parametrize(
    "op",
    [
        lambda x: x + x,
        lambda x: x.exp(),
        lambda x: x.sum(),
        lambda x: x @ x,
        lambda x: torch.cat([x, x]),
        lambda x: x.max(0)[0],
        lambda x: x[[0, 1]],
        lambda x: x.clone(),
        lambda x: torch.where(x > 1, x, x),
        lambda x: x.double(),
        lambda x: x.mean(),
        lambda x: 2 - x,
        lambda x: x**2,
    ],
)
def test_no_kind_of_op_records_in_no_grad(op):
    with torch.no_grad():
        assert not op(leaf()).requires_grad
    assert op(leaf()).requires_grad


def test_leaves_made_in_no_grad_require_grad():
    with torch.no_grad():
        x = torch.ones(3, requires_grad=True)
        y = x * 2
    assert x.requires_grad and not y.requires_grad and (x * 2).requires_grad


def test_leaves_are_written_in_no_grad():
    x = leaf()
    with torch.no_grad():
        x.add_(1)
        x.mul_(2)
        x[0] = 9.0
        x[1:].sub_(1)
    assert x.tolist() == [9, 5, 7] and x.is_leaf and x.requires_grad and x._version == 4
    (x * x).sum().backward()
    assert x.grad.tolist() == [18, 10, 14]


def test_writes_in_no_grad_are_seen_by_backward():
    x = leaf()
    y = (x * x).sum()
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_modes_are_restored_after_an_exception():
    for mode in (torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)):
        with pytest.raises(KeyError), mode():
            raise KeyError
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_one_object_is_entered_again():
    mode = torch.no_grad()
    for _ in range(2):
        with mode:
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()


def test_entering_gives_nothing():
    with torch.no_grad() as a, torch.enable_grad() as b, torch.inference_mode() as c:
        assert a is b is c is None


# set_grad_enabled --------------------------------------------------------------------------------


def test_set_grad_enabled_as_a_function():
    x = leaf()
    torch.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    torch.set_grad_enabled(True)
    assert (x * 2).requires_grad


def test_set_grad_enabled_as_a_context():
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
        with torch.set_grad_enabled(True):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_set_grad_enabled_as_a_decorator():
    @torch.set_grad_enabled(False)
    def f():
        return torch.is_grad_enabled()

    assert torch.is_grad_enabled() and not f() and torch.is_grad_enabled() and not f()


def test_set_grad_enabled_takes_a_bool():
    with pytest.raises(
        TypeError,
        match=r"set_grad_enabled\(\): argument 'enabled' \(position 1\) must be bool, not str",
    ):
        torch.set_grad_enabled("yes")
    assert torch.is_grad_enabled()


# Decorators --------------------------------------------------------------------------------------


def test_decorated_functions():
    @torch.no_grad()
    def called(n):
        """About it."""
        return [torch.is_grad_enabled()] + (called(n - 1) if n else [])

    @torch.no_grad
    def bare():
        return torch.is_grad_enabled()

    @torch.enable_grad()
    def enabled():
        return torch.is_grad_enabled()

    assert (
        called(2) == [False] * 3 and called.__name__ == "called" and called.__doc__ == "About it."
    )
    assert not bare() and torch.is_grad_enabled()
    with torch.no_grad():
        assert enabled() and not torch.is_grad_enabled()


def test_a_decorated_function_that_raises():
    @torch.no_grad()
    def f():
        raise KeyError

    with pytest.raises(KeyError):
        f()
    assert torch.is_grad_enabled()


def test_decorated_methods():
    class Model:
        @torch.no_grad()
        def predict(self, x):
            return x * 2

    assert not Model().predict(leaf()).requires_grad


def test_a_decorated_generator_has_the_mode_between_its_yields():
    @torch.no_grad()
    def f():
        got = yield torch.is_grad_enabled()
        other = yield got, torch.is_grad_enabled()
        return other

    steps = f()
    assert next(steps) is False and torch.is_grad_enabled()
    assert steps.send("one") == ("one", False) and torch.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        steps.send("two")
    assert end.value.value == "two"


def test_a_decorated_generator_that_is_thrown_at_or_closed():
    log = []

    @torch.no_grad()
    def f():
        try:
            yield 1
        except KeyError:
            log.append(torch.is_grad_enabled())
            yield 2
        finally:
            log.append(torch.is_grad_enabled())

    steps = f()
    next(steps)
    assert steps.throw(KeyError()) == 2 and torch.is_grad_enabled()
    steps.close()
    assert log == [False, False] and torch.is_grad_enabled()


# Threads -----------------------------------------------------------------------------------------


def test_every_thread_has_its_own_modes():
    seen = []

    def look():
        seen.append(
            (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), (leaf() * 2).requires_grad)
        )

    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
    assert seen == [(True, False, True)] * 2


def test_a_thread_in_no_grad_does_not_stop_others():
    entered, done, seen = threading.Event(), threading.Event(), []

    def hold():
        with torch.no_grad():
            entered.set()
            done.wait(10)
            seen.append((leaf() * 2).requires_grad)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    assert (
        (leaf() * 2).requires_grad and (leaf() * leaf()).requires_grad and leaf()[0].requires_grad
    )
    done.set()
    thread.join()
    assert seen == [False]


# inference_mode ----------------------------------------------------------------------------------


def test_inference_mode_makes_inference_tensors():
    x = leaf()
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        y, z = x * 2, torch.ones(3)
    assert y.is_inference() and z.is_inference() and not y.requires_grad and not x.is_inference()
    assert not torch.is_inference_mode_enabled() and not (x * 2).is_inference()


@pytest.mark.parametrize(
    "op",
    [
        lambda x: x + x,
        lambda x: x.exp(),
        lambda x: x.sum(),
        lambda x: x @ x,
        lambda x: torch.cat([x, x]),
        lambda x: x.max(0)[0],
        lambda x: x[[0, 1]],
        lambda x: x.clone(),
        lambda x: x > 1,
        lambda x: torch.ones(2)[0],
        lambda x: torch.tensor([1, 2]),
        lambda x: 2 - x,
        lambda x: x.double(),
        lambda x: x.softmax(0) if hasattr(x, "softmax") else x * 1,
    ],
)
def test_every_kind_of_op_makes_inference_tensors(op):
    with torch.inference_mode():
        assert op(torch.ones(3)).is_inference()


def test_inference_mode_false():
    with torch.inference_mode(False):
        y = leaf() * 2
    assert y.requires_grad and not y.is_inference()
    with torch.inference_mode():
        with torch.inference_mode(False):
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            y = leaf() * 2
        assert torch.is_inference_mode_enabled()
    assert y.requires_grad and not y.is_inference()


def test_enable_grad_does_not_record_in_inference_mode():
    x = leaf()
    with torch.inference_mode(), torch.enable_grad():
        assert torch.is_grad_enabled()
        for y in (x * 2, x * x, x.exp(), torch.cat([x, x])):
            assert not y.requires_grad


def test_inference_tensors_cannot_be_saved_for_backward():
    with torch.inference_mode():
        y = torch.ones(3)
    x = leaf()
    with pytest.raises(
        RuntimeError,
        match=r"Inference tensors cannot be saved for backward. Please do not use Tensors "
        r"created in inference mode in computation tracked by autograd",
    ):
        x * y
    assert (x + y).requires_grad  # needs no saving
    h = x * 1
    with pytest.raises(RuntimeError, match="cannot be saved for backward"):
        h.mul_(y)

    class Mul(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None

    with pytest.raises(RuntimeError, match="cannot be saved for backward"):
        Mul.apply(x, y)


def test_inference_tensors_are_written_only_in_inference_mode():
    with torch.inference_mode():
        y = torch.ones(3)
        y.add_(1)
        y[0] = 5.0
        y[1:].mul_(2)
    assert y.tolist() == [5, 4, 4]
    for write in (
        lambda: y.add_(1),
        lambda: y.mul_(y),
        lambda: y.zero_(),
        lambda: y.__setitem__(0, 1.0),
        lambda: y[:2].add_(1),
    ):
        with pytest.raises(
            RuntimeError,
            match=r"Inplace update to inference tensor outside InferenceMode is not "
            r"allowed.You can make a clone",
        ):
            write()
    assert y.tolist() == [5, 4, 4]  # nothing was written


def test_inference_tensors_do_not_require_grad():
    with torch.inference_mode():
        y = torch.ones(3)
        inside = torch.ones(3).requires_grad_()
        made = torch.ones(3, requires_grad=True)
    assert inside.requires_grad and made.requires_grad and made.is_inference()
    with pytest.raises(
        RuntimeError, match="Setting requires_grad=True on inference tensor outside InferenceMode"
    ):
        y.requires_grad_()
    with pytest.raises(
        RuntimeError, match="Setting requires_grad=True on inference tensor outside InferenceMode"
    ):
        y.requires_grad = True


def test_inference_tensors_count_no_versions():
    with torch.inference_mode():
        y = torch.ones(3)
    with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
        _ = y._version


def test_what_is_made_of_inference_tensors_outside():
    with torch.inference_mode():
        y = torch.ones(3)
    assert y[:2].is_inference() and y.detach().is_inference() and y.data.is_inference()
    assert not (y + 1).is_inference() and not y.clone().is_inference()
    assert (leaf() * y.clone()).requires_grad and y.numpy().tolist() == [1, 1, 1]


def test_normal_tensors_in_inference_mode():
    x = torch.ones(3)
    with torch.inference_mode():
        x.add_(1)
        x[:2].mul_(2)
        view = x[:2]
    assert (
        x.tolist() == [4, 4, 2]
        and x._version == 2
        and not x.is_inference()
        and not view.is_inference()
    )
    y = leaf()
    z = (y * y).sum()
    with torch.inference_mode():
        y.add_(1)  # allowed, and seen
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_views_made_in_inference_mode_are_not_written_in_normal_mode():
    x = leaf() * 1
    with torch.inference_mode():
        view = x[:2]
    with pytest.raises(
        RuntimeError,
        match="A view was created in inference mode and is being modified inplace in normal mode",
    ):
        view.add_(1)


def test_inference_mode_as_a_decorator():
    @torch.inference_mode()
    def called():
        return torch.is_inference_mode_enabled()

    @torch.inference_mode
    def bare():
        return torch.is_inference_mode_enabled()

    assert called() and bare() and not torch.is_inference_mode_enabled()


def test_backward_in_inference_mode():
    x = leaf()
    y = (x * x).sum()
    with torch.inference_mode():
        y.backward()
        assert torch.is_inference_mode_enabled()
    assert x.grad.tolist() == [2, 4, 6]
