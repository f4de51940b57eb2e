"""Every activation of ``torch.nn`` in pure ``jax.numpy``: jit-compiled, differentiable, equal to PyTorch.

The names, parameters and defaults are those of :mod:`torch.nn.functional`. :mod:`jaxact.catalog` has a row
of facts about each function, and :mod:`jaxact.interop` moves tensors between JAX, NumPy and PyTorch.
"""

from jaxact._version import __version__
from jaxact.exponential import celu, elu, logsigmoid, selu, softplus
from jaxact.gated import gelu, glu, mish, silu
from jaxact.hard import hardshrink, hardsigmoid, hardswish, hardtanh, softshrink
from jaxact.normalizing import gumbel_softmax, log_softmax, softmax, softmax2d, softmin
from jaxact.rectifiers import leaky_relu, prelu, relu, relu6, rrelu, threshold
from jaxact.sigmoidal import sigmoid, softsign, tanh, tanhshrink

__all__ = [
    "__version__",
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
    "prelu",
    "relu",
    "relu6",
    "rrelu",
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
