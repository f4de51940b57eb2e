"""Every activation of ``torch.nn`` in pure ``jax.numpy``: jit-compiled, differentiable, equal to PyTorch.

The names, parameters and defaults are those of :mod:`torch.nn.functional`. :mod:`jaxact.catalog` has a row
of facts about each function, and :mod:`jaxact.interop` moves tensors between JAX, NumPy and PyTorch.
"""

from jaxact._version import __version__
from jaxact.normalizing import softmax
from jaxact.rectifiers import leaky_relu, relu
from jaxact.sigmoidal import sigmoid, tanh

__all__ = ["__version__", "leaky_relu", "relu", "sigmoid", "softmax", "tanh"]
