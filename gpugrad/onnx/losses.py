"""ONNX's operators for the ops of losses."""
from __future__ import annotations

from gpugrad.onnx.graph import Graph, Site, fixed
from gpugrad.onnx.layers import column
from gpugrad.onnx.ops import TABLE as TABLE
from gpugrad.onnx.ops import like, reduce, same, to
from gpugrad.onnx.trace import Refused

TABLE["scores"] = same("Identity")


def reduced(g: Graph, s: Site, losses: str) -> str:
    how = s["reduction"]
    return losses if how == "none" else reduce(g, f"Reduce{how.title()}", losses, None, False)


def softplus(g: Graph, x: str) -> str:
    return g.op("Softplus", x)


@to("cross_entropy_rows", "cross_entropy_images", "nll_loss_rows", "nll_loss_images")
def _classes(g: Graph, s: Site) -> list[str]:
    kind = "NegativeLogLikelihoodLoss" if s.name.startswith("nll") else "SoftmaxCrossEntropyLoss"
    return [g.op(kind, s.x(), s.x(1), s.x(2), reduction=s["reduction"],
                 ignore_index=s["ignore_index"])]


@to("smoothed_cross_entropy")
def _smoothed(g: Graph, s: Site) -> list[str]:
    """The classes' part, and the mean of all scores' parts, each sample's or over all samples."""
    x, target, ignored = g.op("LogSoftmax", s.x(), axis=1), s.x(1), s["ignore_index"]
    share, classes = s["label_smoothing"], s.dims()[1]
    if not fixed(classes):
        raise Refused("label smoothing of a dynamic number of classes")

    def chosen(scores: str, reduction: str) -> str:
        return g.op("NegativeLogLikelihoodLoss", scores, target, s.x(2), reduction=reduction,
                    ignore_index=ignored)

    weighted = g.op("Mul", x, column(g, s, 2, s.ndim())) if s.has(2) else x
    even = g.op("Neg", reduce(g, "ReduceSum", weighted, 1, False))
    kept = g.op("Not", g.op("Equal", target, g.const(ignored, s.dtype(1))))
    even = g.op("Where", kept, even, like(g, s, 0))
    if s["reduction"] != "none":
        even = reduce(g, "ReduceSum", even, None, False)
    if s["reduction"] == "mean":                 # by the sum of the weights of what is kept
        minus = g.op("Sub", g.op("Mul", x, like(g, s, 0)), like(g, s, 1))
        even = g.op("Div", even, chosen(minus, "sum"))
    return [g.op("Add", g.op("Mul", chosen(x, s["reduction"]), like(g, s, 1 - share)),
                 g.op("Mul", even, like(g, s, share / classes[0])))]


@to("mse_loss", "huber_loss", "smooth_l1_loss")
def _difference(g: Graph, s: Site) -> str:
    d = g.op("Sub", s.x(), s.x(1))
    square = g.op("Mul", d, d)
    if s.name == "mse_loss":
        return reduced(g, s, square)
    bend, slope = (s["delta"], s["delta"]) if s.name == "huber_loss" else (s["beta"], 1.0)
    size = g.op("Abs", d)
    curve = g.op("Mul", square, like(g, s, 0.5 * slope / bend))
    line = g.op("Mul", g.op("Sub", size, like(g, s, 0.5 * bend)), like(g, s, slope))
    return reduced(g, s, g.op("Where", g.op("Less", size, like(g, s, bend)), curve, line))


@to("soft_margin_loss")
def _soft_margin(g: Graph, s: Site) -> str:
    return reduced(g, s, softplus(g, g.op("Neg", g.op("Mul", s.x(), s.x(1)))))


@to("binary_cross_entropy", "binary_cross_entropy_with_logits")
def _binary(g: Graph, s: Site) -> str:
    x, t, one = s.x(), s.x(1), like(g, s, 1)
    rest = g.op("Sub", one, t)
    if s.name == "binary_cross_entropy":
        low = like(g, s, -100)
        logs = [g.op("Max", g.op("Log", v), low) for v in (x, g.op("Sub", one, x))]
        losses = g.op("Neg", g.op("Add", g.op("Mul", t, logs[0]), g.op("Mul", rest, logs[1])))
    else:
        cost = softplus(g, g.op("Neg", x))
        if s.has(3):
            more = g.op("Mul", g.op("Sub", s.x(3), one), t)
            cost = g.op("Mul", cost, g.op("Add", more, one))
        losses = g.op("Add", g.op("Mul", rest, x), cost)
    return reduced(g, s, g.op("Mul", losses, s.x(2)) if s.has(2) else losses)


@to("xlogy")
def _xlogy(g: Graph, s: Site) -> str:
    if s.dtype() != s.dtype(1):
        raise Refused("xlogy() of two dtypes")
    x, zero = s.x(), like(g, s, 0)
    return g.op("Where", g.op("Equal", x, zero), zero, g.op("Mul", x, g.op("Log", s.x(1))))
