"""Cases of the adaptive log-softmax, with the module of torch that they are."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxact.adaptive import adaptive_log_softmax_log_prob, adaptive_log_softmax_with_loss

# id: features, classes, cutoffs, options of torch's module
MODULES = {
    "one cluster": (4, 6, [2], {}),
    "two clusters and a bias": (8, 20, [5, 9], {"div_value": 2.0, "head_bias": True}),
    "clusters of one class": (6, 3, [1, 2], {"div_value": 1.0}),
    "no hidden features": (2, 9, [3, 7], {"head_bias": True}),
    "many classes": (16, 300, [10, 100], {"div_value": 2.0}),
}
# Numbers of rows, None for a single one without an axis.
CASES = [*((name, 7) for name in MODULES), *(("two clusters and a bias", rows) for rows in (None, 0, 1))]
HALVES = [np.float16, jnp.bfloat16]

# The largest error in units of the dtype's epsilon, relative to the largest number of each array: about twice the
# measured 6.1 of float32 and 3.7 of float64, whose sums cancel; 0.45 of the halves, which are rounded once.
TOLERANCES = {np.dtype(np.float32): 12, np.dtype(np.float64): 8} | {np.dtype(half): 0.6 for half in HALVES}


class Case:
    """Inputs rounded to a dtype, and torch's module in float64 at the same numbers."""

    def __init__(self, name, rows=7, dtype=np.float32):
        features, self.classes, self.cutoffs, options = MODULES[name]
        self.module = torch.nn.AdaptiveLogSoftmaxWithLoss(features, self.classes, self.cutoffs, **options).double()
        rng = np.random.default_rng(len(name))
        batch = () if rows is None else (rows,)
        for parameter in self.module.parameters():
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape).astype(dtype).astype(np.float64))
        weights = {path: parameter.detach().numpy().astype(dtype) for path, parameter in self.module.named_parameters()}
        clusters = range(len(self.cutoffs))
        self.weights = {
            "head_weight": weights["head.weight"],
            "tail_weights": [(weights[f"tail.{k}.0.weight"], weights[f"tail.{k}.1.weight"]) for k in clusters],
            "head_bias": weights.get("head.bias"),
        }
        self.x = rng.standard_normal((*batch, features)).astype(dtype)
        edges = [edge for cutoff in self.cutoffs for edge in (cutoff - 1, cutoff)]
        self.target = np.resize([self.classes - 1, *edges, *rng.integers(0, self.classes, 40)], batch).astype(np.int64)
        self.cotangents = [rng.standard_normal(shape).astype(dtype) for shape in (batch, ())]
        self.log_prob_cotangent = rng.standard_normal((*batch, self.classes)).astype(dtype)

    def with_loss(self, x, weights):
        return adaptive_log_softmax_with_loss(x, self.target, **weights, cutoffs=self.cutoffs)

    def log_prob(self, x, weights):
        return adaptive_log_softmax_log_prob(x, **weights, cutoffs=self.cutoffs)

    def loss(self, x, weights):
        output, loss = self.with_loss(x, weights)
        return jnp.sum(output * self.cotangents[0]) + loss

    def torch_gradients(self, function, cotangents):
        """Return torch's outputs and its gradients, of the input first and then as the weights are."""
        x = torch.from_numpy(self.x.astype(np.float64)).requires_grad_()
        outputs = function(x)
        outputs = tuple(outputs) if isinstance(outputs, tuple) else (outputs,)
        parameters = dict(self.module.named_parameters())
        cotangents = [torch.from_numpy(c.astype(np.float64)) for c in cotangents]
        gradients = torch.autograd.grad(outputs, [x, *parameters.values()], cotangents, materialize_grads=True)
        dx, *gradients = (gradient.numpy() for gradient in gradients)
        gradients = dict(zip(parameters, gradients, strict=True))
        tails = [tuple(gradients[f"tail.{k}.{i}.weight"] for i in (0, 1)) for k in range(len(self.cutoffs))]
        weights = {"head_weight": gradients["head.weight"], "tail_weights": tails}
        return [y.detach().numpy() for y in outputs], (dx, weights | {"head_bias": gradients.get("head.bias")})

    def compare(self, ours, theirs, cotangents):
        """Compare outputs and all gradients of one function with torch's."""
        exact, exact_gradients = self.torch_gradients(theirs, cotangents)

        @jax.jit
        def run(x, weights):
            y, vjp = jax.vjp(ours, x, weights)
            return jax.tree.leaves(y), vjp(jax.tree.unflatten(jax.tree.structure(y), map(jnp.asarray, cotangents)))

        jax.tree.map(self.assert_close, run(self.x, self.weights), (exact, exact_gradients))

    def assert_close(self, ours, exact):
        dtype = self.x.dtype
        assert ours.dtype == dtype
        assert ours.shape == exact.shape
        tolerance = TOLERANCES[dtype] * float(jnp.finfo(dtype).eps)
        largest = np.max(np.abs(exact), initial=0, where=np.isfinite(exact))
        np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=0, atol=tolerance * largest)
