"""Every activation of ``torch.nn`` in pure ``jax.numpy``: jit-compiled, differentiable, equal to PyTorch.

The names, parameters and defaults are those of :mod:`torch.nn.functional`. :mod:`jaxact.catalog` has a row
of facts about each function, and :mod:`jaxact.interop` moves tensors between JAX, NumPy and PyTorch.
"""

from jaxact._version import __version__
from jaxact.adaptive import adaptive_log_softmax_log_prob, adaptive_log_softmax_with_loss
from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention
from jaxact.exponential import celu, elu, logsigmoid, selu, softplus
from jaxact.gated import gelu, glu, mish, silu
from jaxact.hard import hardshrink, hardsigmoid, hardswish, hardtanh, softshrink
from jaxact.normalizing import gumbel_softmax, log_softmax, softmax, softmax2d, softmin
from jaxact.rectifiers import leaky_relu, prelu, relu, relu6, rrelu, threshold
from jaxact.sigmoidal import sigmoid, softsign, tanh, tanhshrink

__all__ = [
    "__version__",
    "adaptive_log_softmax_log_prob",
    "adaptive_log_softmax_with_loss",
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "multi_head_attention_forward",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax2d",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]
