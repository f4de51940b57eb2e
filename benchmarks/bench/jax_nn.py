"""What one writes with jax.nn for the functions of jaxact, to compare with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# By the name of jaxact's function, and of the same parameters.
JAX_NN: dict[str, Callable[..., jax.Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "prelu": lambda x, weight: jax.nn.leaky_relu(x, weight),
    "rrelu": lambda x: jax.nn.leaky_relu(x, (1 / 8 + 1 / 3) / 2),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "softplus": jax.nn.softplus,
    "logsigmoid": jax.nn.log_sigmoid,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softsign": jax.nn.soft_sign,
    "tanhshrink": lambda x: x - jnp.tanh(x),
    "hardtanh": jax.nn.hard_tanh,
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "silu": jax.nn.silu,
    "gelu": lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
    "mish": jax.nn.mish,
    "glu": jax.nn.glu,
    "softmax": lambda x, dim: jax.nn.softmax(x, axis=dim),
    "softmin": lambda x, dim: jax.nn.softmax(-x, axis=dim),
    "log_softmax": lambda x, dim: jax.nn.log_softmax(x, axis=dim),
    "softmax2d": lambda x: jax.nn.softmax(x, axis=-3),
    "gumbel_softmax": lambda x, key: jax.nn.softmax(x + jax.random.gumbel(key, x.shape, x.dtype)),
    "scaled_dot_product_attention": lambda q, k, v: jnp.swapaxes(
        jax.nn.dot_product_attention(*(jnp.swapaxes(x, 1, 2) for x in (q, k, v))), 1, 2
    ),
}
