"""A line search for the strong Wolfe conditions.

Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6, with cubic interpolation
and its safeguards as in Schmidt's minFunc and in PyTorch.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

DECREASE, CURVATURE = 1e-4, 0.9


class Point(NamedTuple):
    """A step length, the loss and its gradient there, and the loss's slope along the direction."""

    t: float
    loss: float
    grad: Any
    slope: Any


def strong_wolfe(evaluate: Callable[[float], tuple[float, Any]], direction: Any, t: float,
                 start: Point, tolerance_change: float, most: int) -> tuple[Point, int]:
    """A step length that lowers the loss enough and leaves little slope; and how many evaluations.

    evaluate: (loss, gradient) after a step of a length along ``direction``. start: where t is 0.
    most: evaluations after the first. The point is the best one of the bracket if they run out.
    """
    search = _Search(evaluate, direction, start)
    low, high, done = search.bracket(t, most)
    if not done:
        low = search.narrow(low, high, tolerance_change, most)
    return low, search.evaluations


class _Search:
    def __init__(self, evaluate: Callable[[float], tuple[float, Any]], direction: Any,
                 start: Point) -> None:
        self.evaluate, self.direction, self.start = evaluate, direction, start
        self.evaluations = 0

    def at(self, t: float) -> Point:
        loss, grad = self.evaluate(t)
        self.evaluations += 1
        return Point(t, loss, grad, grad.dot(self.direction))

    def is_too_high(self, p: Point) -> bool:
        return bool(p.loss > self.start.loss + DECREASE * p.t * self.start.slope)

    def is_flat(self, p: Point) -> bool:
        return bool(abs(p.slope) <= -CURVATURE * self.start.slope)

    def bracket(self, t: float, most: int) -> tuple[Point, Point, bool]:
        """Two points with a good one between them, the better one first; or the good one, True."""
        before, now = self.start, self.at(t)
        for i in range(most):
            if self.is_too_high(now) or (i > 1 and now.loss >= before.loss):
                return *_ordered(before, now), False
            if self.is_flat(now):
                return now, now, True
            if now.slope >= 0:
                return *_ordered(before, now), False
            least, greatest = now.t + 0.01 * (now.t - before.t), now.t * 10
            before, now = now, self.at(_cubic_minimum(before, now, least, greatest))
        return *_ordered(self.start, now), False

    def narrow(self, low: Point, high: Point, tolerance_change: float, most: int) -> Point:
        """Shrink a bracket until its better end is good; returns that."""
        size = self.direction.abs().max()
        stuck = False
        while self.evaluations <= most and abs(high.t - low.t) * size >= tolerance_change:
            least, greatest = min(low.t, high.t), max(low.t, high.t)
            t = _cubic_minimum(low, high, least, greatest)
            margin = 0.1 * (greatest - least)
            near = min(greatest - t, t - least) < margin
            if near and (stuck or t >= greatest or t <= least):
                t = greatest - margin if abs(t - greatest) < abs(t - least) else least + margin
                stuck = False
            else:
                stuck = near
            now = self.at(t)
            if self.is_too_high(now) or now.loss >= low.loss:
                low, high = _ordered(low, now)
                continue
            if self.is_flat(now):
                return now
            if now.slope * (high.t - low.t) >= 0:
                high = low
            low = now
        return low


def _ordered(a: Point, b: Point) -> tuple[Point, Point]:
    return (a, b) if a.loss <= b.loss else (b, a)


def _cubic_minimum(a: Point, b: Point, least: Any, greatest: Any) -> Any:
    """Where the cubic through both points, with their slopes, is lowest between two bounds."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 ** 2 - a.slope * b.slope
    if square < 0:
        return (least + greatest) / 2.0
    d2 = square.sqrt()
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, least), greatest)
