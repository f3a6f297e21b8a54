"""Anomaly detection: NaN in backward, where the forward operation was called, parents."""
from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator

import pytest

import gpugrad as torch
from gpugrad import _state
from gpugrad.autograd import Function, detect_anomaly, set_detect_anomaly

pytestmark = [pytest.mark.usefixtures("on_each_device"),
              pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(autouse=True)
def off_afterwards() -> Iterator[None]:
    before = _state.off[0]
    yield
    assert not torch.is_anomaly_enabled() and torch.is_anomaly_check_nan_enabled()
    assert _state.off[0] == before


def root(x):
    return x.sqrt()


def told(fn):
    """The warnings of a failing backward, and its error."""
    with warnings.catch_warnings(record=True) as seen, pytest.raises(Exception) as raised:
        warnings.simplefilter("always", UserWarning)
        fn()
    return [str(w.message) for w in seen if w.category is UserWarning], raised.value, seen


def test_a_nan_raises_and_the_warning_shows_the_forward_call():
    with set_detect_anomaly(True):
        x = torch.tensor([0.0, -1.0], requires_grad=True)
        y = (root(x) * 2).sum()
        texts, error, seen = told(y.backward)
    assert type(error) is RuntimeError
    assert str(error) == "Function 'SqrtBackward0' returned nan values in its 0th output."
    (text,) = texts
    assert text.startswith("Error detected in SqrtBackward0. Traceback of forward call that caused "
                           "the error:\n")
    assert "y = (root(x) * 2).sum()" in text and text.endswith("in root\n    return x.sqrt()\n")
    assert seen[-1].filename == __file__


def test_the_number_of_the_output_is_that_of_the_edge():
    with set_detect_anomaly(True):
        a, b = torch.tensor([1.0], requires_grad=True), torch.tensor([float("nan")])
        _, error, _ = told((b.requires_grad_() * a).backward)
        assert "'MulBackward0' returned nan values in its 1th output" in str(error)
        x = torch.tensor([2.0], requires_grad=True)
        _, error, _ = told((x * b.detach()).backward)
        assert "in its 0th output" in str(error)


def test_gradients_that_nobody_asked_for_are_not_looked_at():
    with set_detect_anomaly(True):
        a, b = torch.tensor([1.0], requires_grad=True), torch.tensor([float("nan")])
        y = a * b.requires_grad_()
        (g,) = torch.autograd.grad(y, b)
    assert g.tolist() == [1]


def test_without_forward_information_it_says_so():
    x = torch.tensor([-1.0], requires_grad=True)
    y = root(x)
    with set_detect_anomaly(True):
        texts, error, _ = told(y.backward)
    assert texts == ["Error detected in SqrtBackward0. No forward pass information available. "
                     "Enable detect anomaly during forward pass for more information."]
    assert "SqrtBackward0" in str(error)


def test_infinities_pass_and_check_nan_can_be_off():
    x = torch.tensor([0.0], requires_grad=True)
    with set_detect_anomaly(True):
        root(x).backward()
        assert x.grad.tolist() == [float("inf")]
    x = torch.tensor([-1.0], requires_grad=True)
    with set_detect_anomaly(True, check_nan=False):
        assert torch.is_anomaly_enabled() and not torch.is_anomaly_check_nan_enabled()
        root(x).backward()
    assert x.grad.isnan().all()


def test_errors_in_backward_show_where_the_forward_was_called():
    class Failing(Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise ValueError("by hand")

    def hook(g):
        raise KeyError("in a hook")

    with set_detect_anomaly(True):
        x = torch.ones(2, requires_grad=True)
        texts, error, _ = told(Failing.apply(x).sum().backward)
        assert str(error) == "by hand" and texts[0].startswith("Error detected in FailingBackward.")
        assert "Failing.apply(x)" in texts[0]
        y = x.exp()
        y.register_hook(hook)
        texts, error, _ = told((y * 2).sum().backward)
        assert type(error) is KeyError and "Error detected in ExpBackward0" in texts[0]
        x.register_hook(hook)
        texts, _, _ = told((x * 2).sum().backward)
        assert texts[0].startswith("Error detected in torch::autograd::AccumulateGrad. Traceback")


def test_hooks_on_nodes_have_the_last_word():
    def nan(gi, go):
        return (gi[0] * float("nan"),)

    def one(gi, go):
        return (torch.ones(1),)

    with set_detect_anomaly(True):
        x = torch.tensor([1.0], requires_grad=True)
        y = x.exp()
        y.grad_fn.register_hook(nan)
        _, error, _ = told(y.backward)
        assert "Function 'ExpBackward0' returned nan" in str(error)
        x = torch.tensor([-1.0], requires_grad=True)
        y = root(x)
        y.grad_fn.register_hook(one)
        y.backward()
    assert x.grad.tolist() == [1]


def test_what_was_changed_in_place_is_pointed_at():
    for on in (True, False):
        with set_detect_anomaly(on):
            x = torch.tensor([1.0], requires_grad=True)
            y = x.exp()
            y.add_(1)
            texts, error, _ = told(y.backward)
        assert ("the backtrace further above shows the operation" in str(error)) is on
        assert ("set_detect_anomaly(True, check_nan=False)" in str(error)) is not on
        assert len(texts) == on
        assert not on or "y = x.exp()" in texts[0]


def test_nodes_made_in_backward_know_in_whose_run():
    with set_detect_anomaly(True):
        x = torch.tensor([0.0, 1.0], requires_grad=True)
        y = (x ** 1.5).sum()
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        parent = g.grad_fn.metadata["parent_"]
        assert parent.name() == "PowBackward0" and "parent_" not in parent.metadata
        texts, _, _ = told((g * float("inf") * 0.0).sum().backward)
        assert len(texts) == 1 and "MulBackward0" in texts[0]
        x = torch.tensor([0.0], requires_grad=True)
        (g,) = torch.autograd.grad(x ** 1.5, x, create_graph=True)
        texts, _, _ = told(lambda: torch.autograd.grad(g, x, torch.tensor([float("nan")])))
    assert len(texts) == 2
    assert texts[1].startswith("\n\nPrevious calculation was induced by PowBackward0. Traceback of "
                               "forward call that induced the previous calculation:\n")
    assert "(g,) = torch.autograd.grad(x ** 1.5, x, create_graph=True)" in texts[1]


def test_every_kind_of_node_keeps_where_it_was_made():
    with set_detect_anomaly(True):
        x = torch.ones(4, requires_grad=True)
        base = x * 1.0
        view = base[:2]
        view.mul_(3)
        nodes = [x.exp(), x + x, torch.cat([x, x]), x.sum(0), x.topk(2)[0], base, view,
                 x.unbind()[0], x.to("cpu") if x.is_cuda else x * 2, x.softmax(0)]
        for t in nodes:
            assert "test_anomaly.py" in t.grad_fn.metadata["traceback_"][-1], t.grad_fn
        assert [t.grad_fn.name().rpartition(":")[2] for t in (base, view)] == \
            ["CopySlices", "AsStridedBackward0"]
        leaf = nodes[0].grad_fn.next_functions[0][0]
        assert "test_anomaly.py" in leaf.metadata["traceback_"][-1]
    assert "traceback_" not in x.exp().grad_fn.metadata


def test_modules_are_in_the_traceback():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with set_detect_anomaly(True):
        lines = net(torch.ones(1, 2)).grad_fn.metadata["traceback_"]
    assert any("nn/modules" in line for line in lines)
    assert "net(torch.ones(1, 2))" in "".join(lines)


def test_complex_gradients_and_integers_beside():
    with set_detect_anomaly(True):
        x = torch.tensor([1 + 1j], requires_grad=True)
        (x * x).abs().sum().backward()
        a = torch.ones(3, requires_grad=True)
        a[torch.tensor([0, 2])].sum().backward()
    assert a.grad.tolist() == [1, 0, 1] and x.grad.isfinite().all()


def test_detect_anomaly_warns_and_restores():
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        block = detect_anomaly()
    assert not torch.is_anomaly_enabled()
    with block:
        assert torch.is_anomaly_enabled()
        with set_detect_anomaly(False):
            assert not torch.is_anomaly_enabled()
        assert torch.is_anomaly_enabled()


def test_the_switch_as_a_function_holds_for_all_threads():
    set_detect_anomaly(True)
    seen = []
    try:
        def work():
            seen.append(torch.is_anomaly_enabled())
            seen.append("traceback_" in torch.ones(1, requires_grad=True).exp().grad_fn.metadata)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        set_detect_anomaly(False)
    assert seen == [True, True]


def test_saved_tensor_hooks_work_beside():
    packed = []
    with set_detect_anomaly(True), torch.autograd.graph.saved_tensors_hooks(
            lambda t: packed.append(1) or t, lambda t: t):
        x = torch.tensor([-1.0], requires_grad=True)
        y = root(x)
        _, error, _ = told(y.backward)
    assert packed == [1] and "SqrtBackward0" in str(error)


def test_meta_tensors_have_nothing_to_check():
    with set_detect_anomaly(True):
        x = torch.ones(2, device="meta", requires_grad=True)
        (x * 2).sum().backward()
    assert x.grad.is_meta
