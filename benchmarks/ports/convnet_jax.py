"""The convolutional net of convnet_torch.py in plain JAX, with channels first as in torch."""

import jax
import jax.numpy as jnp
from jax import lax

from .convnet_torch import ConvNet
from .corpus import Port, normal, randomised, weights_of


def make(seed, wrong, dtype):
    module = randomised(ConvNet(), seed, dtype)
    w = weights_of(module)

    def channels(name):
        return w[name][:, None, None]

    def conv(x, weight, stride=1, groups=1, padding=((1, 1), (1, 1))):
        return lax.conv_general_dilated(x, weight, (stride, stride), padding, feature_group_count=groups)

    def batch_norm(x, name):
        x = x - channels(f"{name}.running_mean")
        scale = lax.rsqrt(channels(f"{name}.running_var") + (1e-3 if wrong("bn-eps") else 1e-5))  # cause: bn-eps
        return x * scale * channels(f"{name}.weight") + channels(f"{name}.bias")  # mistake: bn-eps

    def max_pool(x):
        lowest = 0.0 if wrong("pool-zeros") else -jnp.inf  # cause: pool-zeros
        padding = "SAME" if wrong("pool-same") else ((0, 0), (0, 0), (1, 1), (1, 1))  # cause: pool-same
        window, strides = (1, 1, 3, 3), (1, 1, 2, 2)
        return lax.reduce_window(x, lowest, lax.max, window, strides, padding)  # mistake: pool-zeros, pool-same

    def average_pool(x):
        sums = lax.reduce_window(x, 0.0, lax.add, (1, 1, 3, 3), (1, 1, 1, 1), "SAME")
        counts = lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, (1, 1, 3, 3), (1, 1, 1, 1), "SAME")
        return sums / (counts if wrong("count-inside") else 9)  # mistake: count-inside

    def forward(x):
        h = conv(x, w["conv1.weight"])
        h = h if wrong("no-bias") else h + channels("conv1.bias")  # mistake: no-bias
        h = batch_norm(h, "bn1")  # mistake: no-bias
        h = max_pool(h)
        h = jax.nn.leaky_relu(h, 0.01 if wrong("slope") else 0.1)  # mistake: slope
        h = conv(h, w["conv2.weight"].mT if wrong("kernel-turned") else w["conv2.weight"], 2)  # mistake: kernel-turned
        h = batch_norm(h, "bn2")
        h = jax.nn.relu(h) if wrong("relu-for-silu") else jax.nn.silu(h)  # mistake: relu-for-silu
        d = conv(h, w["depthwise.weight"], groups=8) + channels("depthwise.bias")
        h = h + average_pool(d)
        h = (h.swapaxes(2, 3) if wrong("flatten") else h).reshape(len(h), -1)  # mistake: flatten
        h = jax.nn.gelu(h @ w["fc1.weight"].T + w["fc1.bias"], approximate=False)
        y = h @ w["fc2.weight"].T + w["fc2.bias"]
        y = y[:, :-1] if wrong("short") else y  # mistake: short
        return jax.nn.log_softmax(y, axis=0 if wrong("softmax-axis") else -1)  # mistake: softmax-axis

    return forward, module, (normal(seed, (2, 3, 16, 16), dtype),)


PORT = Port(
    "convnet-jax",
    make,
    {
        "bn-eps": ("bn1",),
        "pool-zeros": ("pool1",),
        "pool-same": ("pool1",),
        "count-inside": ("pool2",),
        "no-bias": ("conv1",),
        "slope": ("act1",),
        "kernel-turned": ("conv2",),
        "relu-for-silu": ("act2",),
        "flatten": ("flatten",),
        "short": ("last", ""),
        "softmax-axis": ("last",),
    },
    pairs=("slope+flatten", "pool-zeros+relu-for-silu"),
)
