"""The usual way into an op of several inputs: a function written for it, a line for each input.

It is for calls with nothing unusual, tensors of one device while no thread has recording off, or
while this one has, and hands all others to the general entry before anything is computed.
"""
from __future__ import annotations

import functools
import os
from typing import Any

from gpugrad._state import off, state
from gpugrad._tensor import LEAF, _new, new_cell
from gpugrad.autograd.node import leaf_edge, next_key, turn
from gpugrad.autograd.rules import NOTHING, Spec, fits, tensors

_HERE = os.path.dirname(__file__)


def direct(spec: Spec, general: Any) -> Any:
    """An entry that at its first call puts the written one in its place on the level of Tensors."""
    made: list[Any] = []

    def entry(*ins: Any, **kw: Any) -> Any:
        if not made:
            made.append(functools.update_wrapper(written(spec, general), entry))
            if getattr(tensors, spec.name, None) is entry:
                setattr(tensors, spec.name, made[0])
        return made[0](*ins, **kw)
    return entry


def written(spec: Spec, general: Any) -> Any:
    """The function itself."""
    scope = {"general": general, "spec": spec, "impl": spec.impl, "Node_": spec.node, "off": off,
             "state": state, "new_cell": new_cell, "NOTHING": NOTHING, "LEAF": LEAF, "new": _new,
             "leaf_edge": leaf_edge, "next_key": next_key, "turn": turn, "fits": fits,
             "savers": {}}
    body = text_of(spec)
    text = "\n".join([f"def make({', '.join(scope)}):", *["    " + line for line in body],
                      "    return entry"])
    made: dict[str, Any] = {}
    # a file of the package, for those who look for the first frame outside of it
    exec(compile(text, os.path.join(_HERE, f"<entry of {spec.name}>"), "exec"), made)
    return made["make"](**scope)


def text_of(spec: Spec) -> list[str]:
    """The lines of ``entry``. Of input i: t its tensor, a its array, e its edge, s what stands for
    one that may be left out; of result k: r its array, y its tensor."""
    n, outs = len(spec.inputs), range(spec.n_out or 0)
    needed = n - len(spec.forward.__defaults__ or ())
    ts, arrays = names("t", range(n)), ", ".join(names("a", range(n)))
    general = f"return general({', '.join(ts)}, **kw)"
    lines = [f"def entry({', '.join(ts[:needed] + [t + '=None' for t in ts[needed:]])}, **kw):",
             "    silent = off[0]",
             f"    if silent and (state.recording or state.casting is not None): {general}",
             "    try:"]
    for i, t in enumerate(ts):
        take = [f"a{i} = {t}._a; e{i} = {t}._edge",
                f"if {t}._be is not be: {general}" if i else f"be = {t}._be"]
        if i < needed:
            lines += ["        " + line for line in take]
        else:
            lines += [f"        if {t} is None: a{i} = e{i} = None; s{i} = NOTHING",
                      "        else:", *["            " + line for line in [f"s{i} = {t}", *take]]]
    lines += [f"    except AttributeError: {general}",
              f"    {', '.join(names('r', outs))} = impl[be.index](be, {arrays}, **kw)"]
    for k in outs:
        lines += [f"    y{k} = new()",
                  f"    y{k}._a = r{k} if type(r{k}) is be.ndarray else be.asarray(r{k})",
                  f"    y{k}._be = be; y{k}._view = y{k}._edge = None",
                  f"    y{k}._ver = new_cell() if silent else [0]"]
    result = f"return {', '.join(names('y', outs))}"
    if spec.node is None:
        return [*lines, "    " + result]
    edges = names("e", spec.diff)
    lines += [f"    if silent or {' is '.join([*edges, 'None'])}: {result}"]
    for i in spec.diff:
        lines += [f"    if e{i} is LEAF: e{i} = (t{i}._acc, 0, t{i}) "
                  f"if t{i}._turn == turn[0] else leaf_edge(t{i})"]
    fit = f"fits(({', '.join(names('a', spec.diff))},), y0._a)" if spec.fit else "None"
    saved = [*ts[:needed], *names("s", range(needed, n)), arrays,
             *[f"y{k}._a" for k in outs], *[f"y{k}._ver" for k in outs]]
    return [*lines,
            "    node = Node_(); node.be = be; node.hooks = None",
            f"    node.edges = ({', '.join(edges)},); node.key = next_key(); node.fit = {fit}",
            f"    mask = ({', '.join([e + ' is not None' for e in edges])},)",
            "    save = savers.get(mask) or savers.setdefault(mask, spec.make_saver(mask))",
            f"    save(node, {', '.join(saved)}, kw)",
            *[f"    y{k}._edge = (node, {k})" for k in range(spec.n_diff)],
            "    " + result]


def names(letter: str, numbers: Any) -> list[str]:
    return [f"{letter}{i}" for i in numbers]
