"""The steps in JAX: functions of parameters with PyTorch's names and shapes; jit and donate."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu.libraries import Library


class Net:
    """The layers, for one trace of a forward. ``new`` collects batch norm's statistics."""

    def __init__(self, lib: Library, parameters: dict[str, Any], statistics: dict[str, Any]
                 ) -> None:
        import jax
        from jax import lax
        from jax import numpy as jnp

        self.jax, self.jnp, self.lax = jax, jnp, lax
        self.p, self.old, self.new = parameters, statistics, dict(statistics)
        self.half = lib.precision == "amp"
        self.last = lib.layout == "channels_last"       # images are (n, h, w, c)
        self.dry = lib.dry_run

    def cast(self, x: Any) -> Any:
        """For products, as autocast does it."""
        return x.astype(self.jnp.bfloat16) if self.half else x

    def weight(self, name: str) -> Any:
        return self.cast(self.p[f"{name}.weight"])

    def linear(self, x: Any, name: str) -> Any:
        y = self.cast(x) @ self.weight(name).T
        return y + self.cast(self.p[f"{name}.bias"]) if f"{name}.bias" in self.p else y

    def conv(self, x: Any, name: str, stride: int = 1, padding: int = 0) -> Any:
        order = ("NHWC", "OIHW", "NHWC") if self.last else ("NCHW", "OIHW", "NCHW")
        y = self.lax.conv_general_dilated(
            self.cast(x), self.weight(name), (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=order)
        if f"{name}.bias" in self.p:
            y = y + self.channels(self.cast(self.p[f"{name}.bias"]))
        return y

    def channels(self, v: Any) -> Any:
        return v if self.last else v[:, None, None]

    def batch_norm(self, x: Any, name: str) -> Any:
        axes = (0, 1, 2) if self.last else (0, 2, 3)
        y = x.astype(self.jnp.float32)
        mean, var = y.mean(axes), y.var(axes)
        n = x.size / mean.size
        for key, value in ("mean", mean), ("var", var * n / (n - 1)):
            self.new[f"{name}.{key}"] = 0.9 * self.old[f"{name}.{key}"] + 0.1 * value
        scale = self.p[f"{name}.weight"] * self.lax.rsqrt(var + 1e-5)
        shift = self.p[f"{name}.bias"] - mean * scale
        return (y * self.channels(scale) + self.channels(shift)).astype(x.dtype)

    def layer_norm(self, x: Any, name: str) -> Any:
        y = x.astype(self.jnp.float32)
        y = (y - y.mean(-1, keepdims=True)) * self.lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
        return y * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        def of(n: Any, others: Any) -> Any:
            return (others, n, n, others) if self.last else (others, others, n, n)
        return self.lax.reduce_window(x, -self.jnp.inf, self.lax.max, of(size, 1), of(stride, 1),
                                      of((padding, padding), (0, 0)))

    def average(self, x: Any) -> Any:
        return x.mean((1, 2) if self.last else (2, 3))

    def relu(self, x: Any) -> Any:
        return self.jax.nn.relu(x)

    # Whole networks ------------------------------------------------------------------------------

    def lenet(self, x: Any) -> Any:
        for name in "conv1", "conv2":
            x = self.pool(self.relu(self.conv(x, name)), 2, 2)
        x = x.reshape(len(x), -1)
        return self.linear(self.relu(self.linear(self.relu(self.linear(x, "fc1")), "fc2")), "fc3")

    def mlp(self, x: Any, sizes: tuple[int, ...]) -> Any:
        for i in range(len(sizes) - 1):
            x = self.linear(x if i == 0 else self.relu(x), f"{2 * i}")
        return x

    def resnet18(self, x: Any, **_: int) -> Any:
        x = self.relu(self.batch_norm(self.conv(x, "0", 1, 1), "1"))
        for i in range(3, 11):
            name = str(i)
            shortcut = f"{name}.shortcut.0.weight" in self.p
            stride = 2 if shortcut else 1
            y = self.relu(self.batch_norm(self.conv(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
            y = self.batch_norm(self.conv(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
            if shortcut:
                x = self.batch_norm(self.conv(x, f"{name}.shortcut.0", 2), f"{name}.shortcut.1")
            x = self.relu(y + x)
        return self.linear(self.average(x), "13")

    def resnet50(self, x: Any, widths: Any, blocks: Any, classes: int) -> Any:
        x = self.relu(self.batch_norm(self.conv(x, "0", 2, 3), "1"))
        x, number = self.pool(x, 3, 2, 1), 4
        for stage in range(len(widths)):
            for block in range(blocks[stage]):
                name, stride = str(number), 2 if block == 0 and stage else 1
                y = self.relu(self.batch_norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1"))
                y = self.relu(self.batch_norm(self.conv(y, f"{name}.conv2", stride, 1),
                                              f"{name}.bn2"))
                y = self.batch_norm(self.conv(y, f"{name}.conv3"), f"{name}.bn3")
                if block == 0:
                    x = self.batch_norm(self.conv(x, f"{name}.shortcut.0", stride),
                                        f"{name}.shortcut.1")
                x, number = self.relu(y + x), number + 1
        return self.linear(self.average(x), str(number + 2))

    def gpt(self, x: Any, layers: int, heads: int, length: int, **_: int) -> Any:
        n = len(x)
        x = self.p["tokens.weight"][x] + self.p["places"]
        for i in range(layers):
            name = f"blocks.{i}"
            parts = self.linear(self.layer_norm(x, f"{name}.norm1"), f"{name}.inputs")
            q, k, v = (parts.reshape(n, length, 3, heads, -1)[:, :, j] for j in range(3))
            # cuDNN's kernel takes 16 bits alone.
            by = "cudnn" if self.half and not self.dry else "xla"
            y = self.jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=by)
            x = x + self.linear(y.reshape(n, length, -1), f"{name}.output")
            y = self.linear(self.layer_norm(x, f"{name}.norm2"), f"{name}.network.0")
            x = x + self.linear(self.jax.nn.gelu(y, approximate=True), f"{name}.network.2")
        x = self.cast(self.layer_norm(x, "norm")) @ self.cast(self.p["tokens.weight"]).T
        return x.reshape(-1, x.shape[-1])

    def lstm(self, x: Any, layers: int, **_: int) -> Any:
        x = self.p["words.weight"][x].swapaxes(0, 1)
        for i in range(layers):
            w, u = (self.cast(self.p[f"lstm.weight_{kind}_l{i}"]) for kind in ("ih", "hh"))
            b = self.p[f"lstm.bias_ih_l{i}"] + self.p[f"lstm.bias_hh_l{i}"]
            given = self.cast(x) @ w.T + self.cast(b)

            def cell(state: Any, g: Any, u: Any = u) -> Any:
                h, c = state
                i, f, z, o = self.jnp.split(g + h @ u.T, 4, -1)
                sigmoid, tanh = self.jax.nn.sigmoid, self.jnp.tanh
                c = sigmoid(f) * c + sigmoid(i) * tanh(z)
                h = sigmoid(o) * tanh(c)
                return (h, c), h

            zero = self.jnp.zeros((x.shape[1], u.shape[1]), given.dtype)
            x = self.lax.scan(cell, (zero, zero), given)[1]
        x = self.linear(x.swapaxes(0, 1), "head")
        return x.reshape(-1, x.shape[-1])


def step(lib: Library, w: Any, sizes: dict[str, Any], start: dict[str, Any]
         ) -> Callable[[Any, Any], Any]:
    """A call (x, y) to the loss, which moves the parameters."""
    import jax
    from jax import numpy as jnp

    kind, options = w.optimizer
    parameters = {name: jnp.asarray(a) for name, a in start.items()}
    statistics = {f"{name.removesuffix('.weight')}.{key}": jnp.full(a.shape, float(key == "var"))
                  for name, a in start.items() for key in ("mean", "var")
                  if a.ndim == 1 and name.endswith(".weight")}
    moments = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(1 if kind == "SGD" else 2)]

    def loss_of(parameters: Any, statistics: Any, x: Any, y: Any) -> Any:
        net = Net(lib, parameters, statistics)
        logits = getattr(net, w.kind)(x, **sizes).astype(jnp.float32)
        found = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -found.mean(), net.new

    def moved(p: Any, g: Any, ms: Any, t: Any) -> Any:
        """The parameter and its moments after a step."""
        if kind == "SGD":
            m = options["momentum"] * ms[0] + g
            return p - options["lr"] * m, [m]
        if kind == "AdamW":
            p = p * (1 - options["lr"] * 0.01)
        m, v = 0.9 * ms[0] + 0.1 * g, 0.999 * ms[1] + 0.001 * g * g
        root = jnp.sqrt(v / (1 - 0.999 ** t)) + options["eps"]
        return p - options["lr"] * (m / (1 - 0.9 ** t)) / root, [m, v]

    def one(parameters: Any, statistics: Any, moments: Any, t: Any, x: Any, y: Any) -> Any:
        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, statistics, x, y)
        if w.clip:
            norm = jnp.sqrt(sum((g * g).sum() for g in grads.values()))
            grads = {k: g * jnp.minimum(1.0, w.clip / (norm + 1e-6)) for k, g in grads.items()}
        t = t + 1
        made = {k: moved(p, grads[k], [m[k] for m in moments], t) for k, p in parameters.items()}
        moments = [{k: made[k][1][i] for k in parameters} for i in range(len(moments))]
        return {k: v[0] for k, v in made.items()}, statistics, moments, t, loss

    compiled = jax.jit(one, donate_argnums=(0, 1, 2, 3))
    state: list[Any] = [parameters, statistics, moments, jnp.zeros(())]

    def call(x: Any, y: Any) -> Any:
        *state[:], loss = compiled(*state, x, y)
        return loss

    return call
