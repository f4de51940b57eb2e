r"""Adaptive softmax for many classes: adaptive_log_softmax_with_loss, adaptive_log_softmax_log_prob.

Classes are sorted by frequency and cut into a shortlist and clusters. The head gives the log-probabilities of
the shortlist's classes and of the clusters, the tail of a cluster those of its classes, given the cluster.
Axes: N rows of F features, K clusters, cluster k with H_k hidden features and O_k classes.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxact import _adaptive_arguments as arguments
from jaxact._checks import operand
from jaxact._dtypes import compute_dtype, matmul_precision
from jaxact._kernels.log_softmax import log_softmax


class AdaptiveLogSoftmaxOutput(NamedTuple):
    """What :func:`adaptive_log_softmax_with_loss` returns.

    Attributes:
        output: The log-probability of each target, of the shape of the target.
        loss: The negative log-likelihood, the mean of ``-output``, a 0-d array.
    """

    output: jax.Array
    loss: jax.Array


def adaptive_log_softmax_with_loss(
    x: ArrayLike,
    /,
    target: ArrayLike,
    head_weight: ArrayLike,
    tail_weights: Sequence[tuple[ArrayLike, ArrayLike]],
    cutoffs: Sequence[int],
    head_bias: ArrayLike | None = None,
) -> AdaptiveLogSoftmaxOutput:
    r"""Log-probability of the target class of each row, by an adaptive softmax, and its mean loss.

    .. math::

        \operatorname{output} &= \begin{cases}
            h_t & t < c_1 \\ h_{c_1 + k - 1} + \operatorname{log\_softmax}(W_k P_k x)_{t - c_k}
            & c_k \le t < c_{k+1} \end{cases}
            \qquad h = \operatorname{log\_softmax}(W_0 x + b) \\
        \operatorname{loss} &= -\operatorname{mean}(\operatorname{output})

    with the target :math:`t` and the cutoffs :math:`c_1 < \dots < c_K`, after which :math:`c_{K+1}` is the number
    of classes. A cluster that is not that of a row adds nothing to the row or to a gradient, also where it
    overflows.

    Every cluster is computed for all rows, as the shapes fixed at compile time ask for; torch computes it for the
    rows whose target is in it.

    Args:
        x: Array of shape (N, F), or (F,) for a single row, of a float dtype.
        target: Classes, int32 or int64, of shape (N,), or () for a single row, each at least 0 and below the
            number of classes. Values that are known are checked, for which the call waits for them; where
            ``target`` is traced, a class out of range makes its output and the loss NaN, and its row adds
            nothing to a gradient.
        head_weight: The head's weight :math:`W_0`, of shape (c_1 + K, F): the shortlist, then the clusters.
        tail_weights: A pair of weights for each cluster: :math:`P_k` of shape (H_k, F), which projects to hidden
            features, and :math:`W_k` of shape (O_k, H_k). All weights are of the dtype of ``x``.
        cutoffs: The K cutoffs :math:`c_k`, known when the function is traced, as the constructor of torch's module
            takes them; or one more, the number of classes, as the module's attribute of that name has them.
        head_bias: The head's bias :math:`b`, of shape (c_1 + K,), or None.

    Returns:
        A named tuple ``(output, loss)``, of the dtype of ``x``: the log-probabilities, of the shape of
        ``target``, and their negative mean, a 0-d array, NaN for no rows.

    Raises:
        TypeError: If an argument is no array, or one of another dtype, ``tail_weights`` is no sequence of pairs,
            or a cutoff is no int.
        ValueError: If shapes do not fit, cutoffs do not increase from at least 1 or do not fit the weights, or
            the target is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> x, target = jnp.eye(2), jnp.array([0, 3])
        >>> head_weight, tail_weights = jnp.zeros((3, 2)), [(jnp.ones((1, 2)), jnp.zeros((2, 1)))]
        >>> output, loss = jaxact.adaptive_log_softmax_with_loss(x, target, head_weight, tail_weights, [2])
        >>> print(jnp.array_str(jnp.exp(output), precision=4), f"{loss:.4f}")
        [0.3333 0.1667] 1.4452

    See Also:
        :class:`torch.nn.AdaptiveLogSoftmaxWithLoss`, of which ``head_weight`` is ``head.weight``, ``head_bias`` is
        ``head.bias`` and a pair of ``tail_weights`` the weights of an entry of ``tail``

    References:
        Grave, Joulin, Cissé, Grangier and Jégou, "Efficient softmax approximation for GPUs", ICML 2017.
    """
    name = "adaptive_log_softmax_with_loss"
    arrays = arguments.weights(name, x, head_weight, tail_weights, head_bias)
    target = operand(name, target, "target")
    shape = np.shape(arrays["input"])
    if len(shape) not in (1, 2) or np.shape(target) != shape[:-1]:
        raise ValueError(
            f"{name}: input and target must be of shapes (N, F) and (N,), or (F,) and (), "
            f"got {shape} and {np.shape(target)}"
        )
    bounds = arguments.bounds(name, arrays, cutoffs)
    arguments.check_target(name, target, bounds[-1])
    result: AdaptiveLogSoftmaxOutput = _with_loss(arrays, target, bounds)
    return result


def adaptive_log_softmax_log_prob(
    x: ArrayLike,
    /,
    head_weight: ArrayLike,
    tail_weights: Sequence[tuple[ArrayLike, ArrayLike]],
    cutoffs: Sequence[int],
    head_bias: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-probabilities of all classes, by an adaptive softmax.

    .. math::

        \operatorname{log\_prob}(x)_j = \begin{cases}
            h_j & j < c_1 \\ h_{c_1 + k - 1} + \operatorname{log\_softmax}(W_k P_k x)_{j - c_k}
            & c_k \le j < c_{k+1} \end{cases}
            \qquad h = \operatorname{log\_softmax}(W_0 x + b)

    with the cutoffs :math:`c_1 < \dots < c_K`, after which :math:`c_{K+1}` is the number of classes.

    Args:
        x: Array of shape (N, F), of a float dtype.
        head_weight: The head's weight, as for :func:`adaptive_log_softmax_with_loss`.
        tail_weights: A pair of weights for each cluster, as there.
        cutoffs: The cutoffs, as there.
        head_bias: The head's bias, as there, or None.

    Returns:
        Array of shape (N, number of classes), of the dtype of ``x``.

    Raises:
        TypeError: If an argument is no array, or one of another dtype, ``tail_weights`` is no sequence of pairs,
            or a cutoff is no int.
        ValueError: If shapes do not fit, or cutoffs do not increase from at least 1 or do not fit the weights.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> head_weight, tail_weights = jnp.zeros((3, 2)), [(jnp.ones((1, 2)), jnp.zeros((2, 1)))]
        >>> log_probs = jaxact.adaptive_log_softmax_log_prob(jnp.ones((1, 2)), head_weight, tail_weights, [2])
        >>> print(jnp.array_str(log_probs, precision=4))
        [[-1.0986 -1.0986 -1.7918 -1.7918]]

    See Also:
        :meth:`torch.nn.AdaptiveLogSoftmaxWithLoss.log_prob`

    References:
        Grave, Joulin, Cissé, Grangier and Jégou, "Efficient softmax approximation for GPUs", ICML 2017.
    """
    name = "adaptive_log_softmax_log_prob"
    arrays = arguments.weights(name, x, head_weight, tail_weights, head_bias)
    shape = np.shape(arrays["input"])
    if len(shape) != 2:
        raise ValueError(f"{name}: input must be of shape (N, F), got {shape}; pass a single row as x[None]")
    log_probs: jax.Array = _log_prob(arrays, arguments.bounds(name, arrays, cutoffs))
    return log_probs


@functools.partial(jax.jit, static_argnames="bounds")
def _with_loss(arrays: dict[str, Any], target: ArrayLike, bounds: tuple[int, ...]) -> AdaptiveLogSoftmaxOutput:
    arrays, dtype = _widened(arrays)
    linear = functools.partial(_linear, dtype=dtype)
    x, classes = jnp.atleast_2d(arrays["input"]), jnp.atleast_1d(target)  # a single row is a batch of one

    entry, within = classes, jnp.zeros((), x.dtype)
    for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
        # Rows of other clusters are 0 at every step, so that what overflows there, which torch would not compute,
        # does not become 0 * inf in a gradient.
        inside = (classes >= start) & (classes < stop)
        rows = jnp.where(inside[:, None], x, 0)
        for i in (0, 1):
            rows = jnp.where(inside[:, None], linear(rows, arrays[arguments.tail(k, i)]), 0)
        within += jnp.where(inside, _at(log_softmax(rows, 1), classes - start), 0)
        entry = jnp.where(inside, bounds[0] + k, entry)
    head = log_softmax(linear(x, arrays["head_weight"], arrays.get("head_bias")), 1)
    unknown = jnp.where((classes >= 0) & (classes < bounds[-1]), 0, jnp.inf)
    output = _at(head, entry) + within + (unknown - unknown)  # NaN there, and none on the way elsewhere
    loss = jnp.mean(-output)
    return AdaptiveLogSoftmaxOutput(output.reshape(np.shape(target)).astype(dtype), loss.astype(dtype))


@functools.partial(jax.jit, static_argnames="bounds")
def _log_prob(arrays: dict[str, Any], bounds: tuple[int, ...]) -> jax.Array:
    arrays, dtype = _widened(arrays)
    linear = functools.partial(_linear, dtype=dtype)
    x, shortlist = arrays["input"], bounds[0]

    head = log_softmax(linear(x, arrays["head_weight"], arrays.get("head_bias")), 1)
    parts = [head[:, :shortlist]]
    for k in range(len(bounds) - 1):
        logits = linear(linear(x, arrays[arguments.tail(k, 0)]), arrays[arguments.tail(k, 1)])
        parts.append(head[:, shortlist + k, None] + log_softmax(logits, 1))
    return jnp.concatenate(parts, axis=1).astype(dtype)


def _linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None, *, dtype: np.dtype) -> jax.Array:
    """Return x W^T + b of arrays widened from dtype, in full float32 unless a precision is set."""
    product = jnp.matmul(x, weight.T, precision=matmul_precision(dtype))
    return product if bias is None else product + bias[None]


def _at(log_probs: jax.Array, entry: jax.Array) -> jax.Array:
    """Return one entry of each row, 0 where there is no such entry.

    The sum fuses with what computes the log-probabilities, and its derivative with theirs; a gather and its
    scatter would store all of them.
    """
    entries = lax.broadcasted_iota(entry.dtype, log_probs.shape, 1)
    return jnp.sum(jnp.where(entries == entry[:, None], log_probs, 0), axis=1)


def _widened(arrays: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], np.dtype]:
    """Return the arrays at the dtype to compute at, and the dtype of the result."""
    dtype = arrays["input"].dtype
    return {argument: x.astype(compute_dtype(dtype)) for argument, x in arrays.items()}, dtype
