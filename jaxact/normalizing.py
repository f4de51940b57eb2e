"""The normalizing family, which turns numbers into probabilities along an axis: softmax."""

import jax
from jax.typing import DTypeLike

from jaxact._boundary import activation, canonical_dim
from jaxact._numerics import normalizing as kernels


@activation(static=("dim", "dtype"))
def softmax(x: jax.Array, /, dim: int, dtype: DTypeLike | None = None) -> jax.Array:
    r"""Softmax: numbers to probabilities along an axis.

    .. math:: \operatorname{softmax}(x)_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \qquad m = \max_j x_j

    Args:
        x: Array of any shape, of a float dtype, or of any real dtype if ``dtype`` is given.
        dim: The axis to sum over, negative to count from the end. It is required.
        dtype: A float dtype to convert ``x`` to first; None for that of ``x``.

    Returns:
        Array of the shape of ``x``, of its dtype or ``dtype``; it sums to 1 along ``dim``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``dim`` is missing or no int.
        ValueError: If ``dim`` is out of range, or ``dtype`` is float64 without x64.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.softmax(jnp.array([1.0, 2.0, 3.0, 4.0, 5.0]), dim=0).round(4))
        [0.0117 0.0317 0.0861 0.2341 0.6364]

    See Also:
        :func:`torch.nn.functional.softmax`, :class:`torch.nn.Softmax`

    References:
        Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    """
    return kernels.softmax(x, canonical_dim("softmax", dim, x.ndim))
