"""The normalizing family, numbers to probabilities along an axis: softmax, softmin, log_softmax and others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxact import _kernels as kernels
from jaxact._activation import Dtype, Key, Static, activation
from jaxact._checks import canonical_dim
from jaxact._kernels.parameters import Scalar


@activation(widen=False)
def softmax(x: jax.Array, /, dim: Static[int], dtype: Dtype = None) -> jax.Array:
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
        >>> print(jnp.array_str(jaxact.softmax(jnp.array([1.0, 2.0, 3.0, 4.0, 5.0]), dim=0), precision=4))
        [0.0117 0.0317 0.0861 0.2341 0.6364]

    See Also:
        :func:`torch.nn.functional.softmax`, :class:`torch.nn.Softmax`

    References:
        Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    """
    return _along(kernels.softmax.softmax, "softmax", x, dim)


@activation(widen=False)
def softmin(x: jax.Array, /, dim: Static[int], dtype: Dtype = None) -> jax.Array:
    r"""Softmax of the negated numbers: the least gets the most.

    .. math:: \operatorname{softmin}(x) = \operatorname{softmax}(-x)

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
        >>> print(jnp.array_str(jaxact.softmin(jnp.array([1.0, 2.0, 3.0]), dim=0), precision=4))
        [0.6652 0.2447 0.09  ]

    See Also:
        :func:`torch.nn.functional.softmin`, :class:`torch.nn.Softmin`

    References:
        The PyTorch documentation of :class:`torch.nn.Softmin`.
    """
    return _along(kernels.softmax.softmin, "softmin", x, dim)


@activation()
def log_softmax(x: jax.Array, /, dim: Static[int], dtype: Dtype = None) -> jax.Array:
    r"""Logarithm of the softmax.

    .. math:: \operatorname{log\_softmax}(x)_i = x_i - m - \log \sum_j e^{x_j - m}, \qquad m = \max_j x_j

    Args:
        x: Array of any shape, of a float dtype, or of any real dtype if ``dtype`` is given.
        dim: The axis to sum over, negative to count from the end. It is required.
        dtype: A float dtype to convert ``x`` to first; None for that of ``x``.

    Returns:
        Array of the shape of ``x``, of its dtype or ``dtype``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``dim`` is missing or no int.
        ValueError: If ``dim`` is out of range, or ``dtype`` is float64 without x64.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.log_softmax(jnp.array([1.0, 2.0, 3.0]), dim=0), precision=4))
        [-2.4076 -1.4076 -0.4076]

    See Also:
        :func:`torch.nn.functional.log_softmax`, :class:`torch.nn.LogSoftmax`

    References:
        The PyTorch documentation of :class:`torch.nn.LogSoftmax`.
    """
    return _along(kernels.log_softmax.log_softmax, "log_softmax", x, dim)


@activation(widen=False)
def softmax2d(x: jax.Array, /) -> jax.Array:
    r"""Softmax over the channels of images.

    .. math:: \operatorname{softmax2d}(x)_{nchw} = \frac{e^{x_{nchw}}}{\sum_k e^{x_{nkhw}}}

    Args:
        x: Array of shape (N, C, H, W) or (C, H, W), of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``; it sums to 1 over the channels.

    Raises:
        TypeError: If ``x`` is no array or not of a float dtype.
        ValueError: If ``x`` has not 3 or 4 axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.softmax2d(jnp.zeros((2, 1, 3))))
        [[[0.5 0.5 0.5]]
        <BLANKLINE>
         [[0.5 0.5 0.5]]]

    See Also:
        :class:`torch.nn.Softmax2d`

    References:
        The PyTorch documentation of :class:`torch.nn.Softmax2d`.
    """
    if x.ndim not in (3, 4):
        raise ValueError(f"softmax2d: input must be of shape (N, C, H, W) or (C, H, W), got {x.shape}")
    return kernels.softmax.softmax(x, x.ndim - 3)


@activation()
def gumbel_softmax(
    x: jax.Array, /, tau: Scalar = 1.0, hard: Static[bool] = False, dim: Static[int] = -1, *, key: Key
) -> jax.Array:
    r"""Random probabilities, near to a random choice among the entries of an axis.

    .. math:: \operatorname{gumbel\_softmax}(x) = \operatorname{softmax}\Bigl(\frac{x + g}{\tau}\Bigr),
              \qquad g_i = -\log(-\log u_i), \quad u_i \sim U(0, 1)

    The largest entry of the result is entry :math:`i` with probability :math:`\operatorname{softmax}(x)_i`. With
    ``hard`` the result is that choice itself, 1 there and 0 elsewhere, and its derivative is that of the
    probabilities (the straight-through estimator).

    Args:
        x: Array of any shape, of a float dtype: unnormalized log-probabilities.
        tau: The temperature :math:`\tau`, a number or a 0-d array; the lower, the nearer to a choice.
        hard: Whether to return the choice itself.
        dim: The axis to choose along, negative to count from the end.
        key: The JAX PRNG key; the same key draws the same numbers.

    Returns:
        Array of the shape and dtype of ``x``; it sums to 1 along ``dim``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, ``tau`` is no real number, ``hard`` is
            neither True nor False, ``dim`` is no int, or ``key`` is missing.
        ValueError: If ``dim`` is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxact
        >>> choice = jaxact.gumbel_softmax(jnp.array([0.0, 1.0, 2.0]), hard=True, key=jax.random.key(0))
        >>> print(choice.sum(), choice.max())
        1.0 1.0

    See Also:
        :func:`torch.nn.functional.gumbel_softmax`

    References:
        Jang, Gu and Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017; Maddison, Mnih and
        Teh, "The concrete distribution", ICLR 2017.
    """
    noisy = x + jax.random.gumbel(key, x.shape, x.dtype)
    soft = _along(lambda x, axis: kernels.softmax.softmax_of_quotient(x, tau, axis), "gumbel_softmax", noisy, dim)
    return _along(_choice, "gumbel_softmax", soft, dim) if hard else soft


def _choice(soft: jax.Array, axis: int) -> jax.Array:
    """Return 1 at the largest number of an axis and 0 elsewhere, with the derivative of the numbers."""
    choice = jax.nn.one_hot(soft.argmax(axis), soft.shape[axis], axis=axis, dtype=soft.dtype)
    return choice + (soft - lax.stop_gradient(soft))  # adds an exact 0


def _along(kernel: Callable[[jax.Array, int], jax.Array], name: str, x: jax.Array, dim: int) -> jax.Array:
    """Return the kernel's result along ``dim``; as in torch, a 0-d array counts as having one axis."""
    axis = canonical_dim(name, dim, x.ndim)
    return kernel(jnp.atleast_1d(x), axis).reshape(x.shape)
