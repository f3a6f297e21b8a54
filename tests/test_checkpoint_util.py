"""torch.utils.checkpoint: the same numbers, less kept, the function run again."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad._state import off
from gpugrad.utils import checkpoint as module
from gpugrad.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential

pytestmark = pytest.mark.usefixtures("on_each_device")


@pytest.fixture(autouse=True)
def switched_off_afterwards():
    before = off[0]
    yield
    assert off[0] == before


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 8),
                         nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 2))


def whole(net, x):
    return net(x)


def reentrant(net, x):
    return checkpoint(net, x, use_reentrant=True)


def not_reentrant(net, x):
    return checkpoint(net, x, use_reentrant=False)


def to_the_end(net, x):
    return checkpoint(net, x, use_reentrant=False, early_stop=False)


def nested(net, x):
    def inner(h):
        return net[3:](h)

    def outer(x):
        return checkpoint(inner, net[:3](x), use_reentrant=False)
    return checkpoint(outer, x, use_reentrant=False)


def nested_twice(net, x):
    def outer(x):
        h = nested(net[:5], x)
        return net[5:](h)
    return checkpoint(outer, x, use_reentrant=False)


def nested_reentrant(net, x):
    def outer(x):
        return checkpoint(net[3:], net[:3](x), use_reentrant=True)
    return checkpoint(outer, x, use_reentrant=True)


def sequential(net, x):
    return checkpoint_sequential(net, 3, x, use_reentrant=False)


def sequential_reentrant(net, x):
    return checkpoint_sequential(list(net), 2, x, use_reentrant=True)


WAYS = [reentrant, not_reentrant, to_the_end, nested, nested_twice, nested_reentrant, sequential,
        sequential_reentrant]


def run(way):
    model = net()
    x = torch.randn(5, 4).requires_grad_()
    torch.manual_seed(3)
    y = way(model, x)
    after = torch.rand(2).tolist()
    y.square().sum().backward()
    more = torch.rand(2).tolist()
    return y, [x.grad, *[p.grad for p in model.parameters()]], after, more


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_as_without(way):
    y, grads, after, more = run(way)
    want_y, want_grads, *want_random = run(whole)
    assert torch.equal(y, want_y) and [after, more] == want_random
    for a, b in zip(grads, want_grads):
        assert torch.allclose(a, b, atol=1e-6)


def counted(fn):
    def wrapped(*args, **kwargs):
        wrapped.calls += 1
        return fn(*args, **kwargs)
    wrapped.calls = 0
    return wrapped


def test_how_often_the_function_runs():
    x = torch.ones(3, requires_grad=True)
    fn = counted(lambda x: x.exp().sin())
    y = checkpoint(fn, x, use_reentrant=False)
    assert fn.calls == 1
    y.sum().backward(retain_graph=True)
    assert fn.calls == 2
    y.sum().backward()
    assert fn.calls == 3
    v = x.detach()
    assert torch.allclose(x.grad, 2 * v.exp().cos() * v.exp())
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
    fn.calls = 0
    with torch.no_grad():
        checkpoint(fn, x, use_reentrant=False)
    assert fn.calls == 1


def test_it_stops_early():
    reached = []

    def fn(x):
        y = x.exp().sin()
        reached.append(1)
        return y

    x = torch.ones(3, requires_grad=True)
    checkpoint(fn, x, use_reentrant=False).sum().backward()
    assert len(reached) == 1
    with module.set_checkpoint_early_stop(False):
        checkpoint(fn, x, use_reentrant=False).sum().backward()
    assert len(reached) == 3


def test_nothing_is_kept_in_between():
    kept = []

    def fn(x):
        h = x.exp()
        kept.append(h)
        return h.sin()

    import weakref

    x = torch.ones(3, requires_grad=True)
    y = checkpoint(fn, x, use_reentrant=False)
    ref = weakref.ref(kept.pop())
    assert ref() is None
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_higher_orders_and_grad():
    x = torch.tensor([0.5, 1.0], requires_grad=True)

    def fn(x):
        return x.exp().sin() * x

    def second(y):
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return g, torch.autograd.grad(g.sum(), x)[0]

    for a, b in zip(second(fn(x)), second(checkpoint(fn, x, use_reentrant=False))):
        assert torch.allclose(a, b)


def test_arguments_of_all_sorts():
    x = torch.ones(2, 3, requires_grad=True)
    index = torch.tensor([1, 0])

    def fn(x, index, number, *, scale, also=None):
        return (x[:, index] * number * scale).exp(), also

    y, also = checkpoint(fn, x, index, 2.0, scale=0.5, also="text", use_reentrant=False)
    y.sum().backward()
    e = 2.718281828459045
    assert also == "text"
    assert torch.allclose(x.grad, torch.tensor([[e, e, 0.0]] * 2))

    def pair(a, b, c):
        return a * b, None, b.exp()

    a, b = torch.ones(2, requires_grad=True), torch.full((2,), 2.0)
    p, nothing, q = checkpoint(pair, a, b, None, use_reentrant=True)
    (p.sum() + q.detach().sum()).backward()
    assert nothing is None and a.grad.tolist() == [2, 2]


def test_parameters_alone_get_gradients_without_reentrance():
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    checkpoint(lambda x: layer(x).exp(), x, use_reentrant=False).sum().backward()
    assert layer.weight.grad is not None
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        y = checkpoint(lambda x: layer(x).exp(), x, use_reentrant=True)
    assert not y.requires_grad


def test_changed_arguments_are_noticed():
    x = torch.ones(3, requires_grad=True)
    h = x * 2
    y = checkpoint(lambda h: h.exp(), h, use_reentrant=False)
    with torch.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_contexts():
    log = []

    class Note:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            log.append(self.name)

        def __exit__(self, *exc):
            log.append("end of " + self.name)

    x = torch.ones(3, requires_grad=True)
    y = checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False,
                   context_fn=lambda: (Note("first"), Note("second")))
    assert log == ["first", "end of first"]
    y.sum().backward()
    assert log[2:] == ["second", "end of second"]


def other_the_second_time(first, second):
    calls = []

    def fn(x):
        calls.append(1)
        return (first if len(calls) == 1 else second)(x)
    return fn


def test_another_function_the_second_time():
    x = torch.ones(3, requires_grad=True)

    def backward(first, second, **kw):
        checkpoint(other_the_second_time(first, second), x, use_reentrant=False,
                   **kw).sum().backward()

    with pytest.raises(CheckpointError, match=r"different metadata.*\ntensor at position 1:\n"
                                              r"saved metadata: \{'shape': torch.Size\(\[3\]\)"):
        backward(lambda x: x.exp().sin(), lambda x: x.exp()[:2].sin())
    fewer = (lambda x: x.exp().sin(), lambda x: x.exp())
    with pytest.raises(CheckpointError, match="during forward: 2\nNumber of tensors saved during "
                                              "recomputation: 1"):
        backward(*fewer)
    with pytest.raises(CheckpointError, match=r"saved its tensors:\n0: .*test_checkpoint_util"):
        backward(*fewer, debug=True)
    with pytest.raises(CheckpointError, match="more tensors during recomputation"):
        backward(*fewer[::-1], early_stop=False)
    backward(*fewer[::-1])                      # more is not noticed when it stops early


def test_wrong_arguments():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: foo"):
        checkpoint(torch.exp, x, use_reentrant=True, foo=1)
    with pytest.raises(ValueError, match="only supported when use_reentrant=False"):
        checkpoint(torch.exp, x, use_reentrant=True, debug=True)
    with pytest.raises(ValueError, match=r"determinism_check should be one of"):
        checkpoint(torch.exp, x, use_reentrant=False, determinism_check="foo")
    with pytest.warns(UserWarning, match="use_reentrant parameter should be passed explicitly"):
        checkpoint(torch.exp, x)
    with pytest.raises(RuntimeError, match=r"incompatible with \.grad\(\)"):
        torch.autograd.grad(checkpoint(torch.exp, x, use_reentrant=True).sum(), x)
    with pytest.raises(RuntimeError, match="none of output has requires_grad=True"):
        checkpoint(lambda x: x.detach() + 0, x, use_reentrant=True).sum().backward()
    with pytest.raises(ValueError, match="3 segments"):
        checkpoint_sequential([torch.sin, torch.exp], 3, x, use_reentrant=False)
    with pytest.raises(NotImplementedError, match="selective checkpointing"):
        module.create_selective_checkpoint_contexts([])


def test_random_numbers_that_may_differ():
    x = torch.ones(1000, requires_grad=True)
    seen = []

    def fn(x):
        mask = torch.rand(1000) > 0.5
        seen.append(mask)
        return (x * mask).exp()

    for way in (True, False):
        seen.clear()
        checkpoint(fn, x, use_reentrant=way, early_stop=False).sum().backward()
        assert torch.equal(*seen)
        seen.clear()
        checkpoint(fn, x, use_reentrant=way, preserve_rng_state=False,
                   early_stop=False).sum().backward()
        assert not torch.equal(*seen)


@pytest.mark.parametrize("reentrant", [True, False])
def test_autocast_is_as_it_was_bfloat16(reentrant):
    kind = torch.ones(1).device.type
    layer, seen = nn.Linear(3, 3), []

    def fn(x):
        y = layer(x)
        seen.append(y.dtype)
        return y.float().exp()

    x = torch.full((2, 3), 0.1, requires_grad=True)
    with torch.autocast(kind, dtype=torch.bfloat16):
        y = checkpoint(fn, x, use_reentrant=reentrant, **({} if reentrant else
                                                          {"early_stop": False}))
    y.sum().backward()
    assert seen == [torch.bfloat16] * 2
    seen.clear()
    y = checkpoint(fn, x, use_reentrant=reentrant)
    with torch.autocast(kind, dtype=torch.bfloat16):
        y.sum().backward()
    assert seen == [torch.float32] * 2


def test_states_of_devices():
    x = torch.ones(2)
    if not x.is_cuda:
        assert module.get_device_states(x) == ([], [])
        return
    torch.cuda.manual_seed(5)
    ids, states = module.get_device_states(x, torch.ones(1, device="cpu"), "text")
    first = torch.rand(3).tolist()
    module.set_device_states(ids, states)
    assert ids == [0] and torch.rand(3).tolist() == first
