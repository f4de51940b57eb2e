"""The convolutional net of convnet_torch.py as a bound module of Flax Linen, with channels last."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from .convnet_torch import CLASSES, ConvNet
from .corpus import Port, Wrong, normal, randomised, weights_of

ONE = ((1, 1), (1, 1))


class LinenConvNet(nn.Module):
    wrong: Wrong

    @nn.compact
    def __call__(self, x):
        wrong = self.wrong
        batch, channels, height, width = x.shape
        x = x.reshape(batch, height, width, channels) if wrong("nhwc") else x.transpose(0, 2, 3, 1)  # mistake: nhwc
        x = nn.Conv(8, (3, 3), padding=ONE, name="conv1")(x)
        epsilon = 1e-3 if wrong("bn-eps") else 1e-5  # cause: bn-eps
        x = nn.BatchNorm(use_running_average=True, epsilon=epsilon, name="bn1")(x)  # mistake: bn-eps
        if wrong("pool-zeros"):
            x = nn.max_pool(jnp.pad(x, ((0, 0), *ONE, (0, 0))), (3, 3), (2, 2))  # mistake: pool-zeros
        else:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=ONE)
        x = nn.leaky_relu(x, negative_slope=0.01 if wrong("slope") else 0.1)  # mistake: slope
        padding = "SAME" if wrong("same") else ONE  # cause: same
        x = nn.Conv(8, (3, 3), (2, 2), padding, use_bias=False, name="conv2")(x)  # mistake: same
        x = nn.silu(nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn2")(x))  # mistake: mean-for-bias
        d = nn.Conv(8, (3, 3), padding=ONE, feature_group_count=8, name="depthwise")(x)
        x = x + nn.avg_pool(d, (3, 3), padding=ONE)
        x = (x if wrong("flatten") else x.transpose(0, 3, 1, 2)).reshape(batch, -1)  # mistake: flatten
        x = nn.Dense(24, name="fc1")(x)
        x = nn.gelu(x, approximate=wrong("tanh-gelu"))  # mistake: tanh-gelu
        x = nn.Dense(CLASSES, name="fc2")(x)
        return nn.softmax(x) if wrong("softmax-for-log") else nn.log_softmax(x)  # mistake: softmax-for-log


def variables(w, wrong):
    """Return torch's weights as Linen's tree."""
    params, statistics = {}, {}
    for name in ("conv1", "conv2", "depthwise"):
        params[name] = {"kernel": w[f"{name}.weight"].transpose(2, 3, 1, 0)}
    for name in ("fc1", "fc2"):
        params[name] = {"kernel": w[f"{name}.weight"].T}
    for name in ("conv1", "depthwise", "fc1", "fc2"):
        params[name]["bias"] = w[f"{name}.bias"]
    for name in ("bn1", "bn2"):
        params[name] = {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}
        statistics[name] = {"mean": w[f"{name}.running_mean"], "var": w[f"{name}.running_var"]}
    if wrong("mean-for-bias"):
        params["bn2"]["bias"] = w["bn2.running_mean"]  # cause: mean-for-bias
    return {"params": params, "batch_stats": statistics}


def make(seed, wrong, dtype):
    module = randomised(ConvNet(), seed, dtype)
    model = LinenConvNet(wrong).bind(variables(weights_of(module), wrong))
    return model, module, (normal(seed, (2, 3, 16, 16), jax.numpy.dtype(dtype)),)


PORT = Port(
    "convnet-linen",
    make,
    {
        "nhwc": ("conv1", ""),
        "bn-eps": ("bn1",),
        "pool-zeros": ("pool1",),
        "slope": ("act1",),
        "same": ("conv2",),
        "mean-for-bias": ("bn2",),
        "flatten": ("flatten",),
        "tanh-gelu": ("act3",),
        "softmax-for-log": ("last",),
    },
    pairs=("bn-eps+tanh-gelu", "same+softmax-for-log"),
)
