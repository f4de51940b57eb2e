"""Modules of every class that port takes, and their comparison with torch's in float64, for the tests of port."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from jaxact.interop import port

# The classes of torch's two chapters; one that torch adds fails every test that walks them.
CLASSES = [*nn.modules.activation.__all__, *nn.modules.adaptive.__all__]


SHAPE = (2, 4, 3, 6)


# Every setting of the classes of one input, at a value that is not its default.
SETTINGS = {
    "CELU": {"alpha": 2.0},
    "ELU": {"alpha": 1.5},
    "GELU": {"approximate": "tanh"},
    "GLU": {"dim": 1},
    "Hardshrink": {"lambd": 0.25},
    "Hardsigmoid": {},
    "Hardswish": {},
    "Hardtanh": {"min_val": -0.5, "max_val": 2.0},
    "LeakyReLU": {"negative_slope": 0.3},
    "LogSigmoid": {},
    "LogSoftmax": {"dim": 1},
    "Mish": {},
    "PReLU": {"num_parameters": 4, "init": 0.1},
    "ReLU": {},
    "ReLU6": {},
    "RReLU": {"lower": 0.1, "upper": 0.4},
    "SELU": {},
    "SiLU": {},
    "Sigmoid": {},
    "Softmax": {"dim": 1},
    "Softmax2d": {},
    "Softmin": {"dim": -2},
    "Softplus": {"beta": 2.0, "threshold": 3.0},
    "Softshrink": {"lambd": 0.25},
    "Softsign": {},
    "Tanh": {},
    "Tanhshrink": {},
    "Threshold": {"threshold": 0.1, "value": 20.0},
}


# id: settings of the module, shapes of query and of key (and value), arguments of the call
ATTENTION = {
    "plain": ({}, (3, 2, 8), (5, 2, 8), {}),
    "batch first": ({"batch_first": True}, (2, 3, 8), (2, 5, 8), {"need_weights": False}),
    "batch first, no batch": ({"batch_first": True}, (3, 8), (5, 8), {"average_attn_weights": False}),
    "separate projections": ({"kdim": 5, "vdim": 5, "bias": False}, (3, 2, 8), (4, 2, 5), {}),
    "extra keys": ({"add_bias_kv": True, "add_zero_attn": True}, (3, 2, 8), (5, 2, 8), {"need_weights": False}),
    "masks": ({"dropout": 0.5, "batch_first": True}, (2, 3, 8), (2, 5, 8), {
        "attn_mask": np.triu(np.ones((3, 5), bool), 2), "key_padding_mask": np.arange(10).reshape(2, 5) == 6,
    }),
    "causal": ({}, (4, 2, 8), (4, 2, 8), {
        "attn_mask": np.triu(np.ones((4, 4), bool), 1), "is_causal": True, "need_weights": False,
    }),
}  # fmt: skip


ADAPTIVE = {"in_features": 8, "n_classes": 20, "cutoffs": [5, 9], "div_value": 2.0, "head_bias": True}


def cases(name):
    """Return for a class, by id, modules in eval mode with random weights, inputs and arguments of the call."""
    rng = np.random.default_rng(len(name))
    if name == "MultiheadAttention":
        found = {}
        for case, (settings, query, key, options) in ATTENTION.items():
            inputs = [rng.standard_normal(shape) for shape in (query, key, key)]
            found[case] = (nn.MultiheadAttention(8, 2, **settings), inputs, options)
    elif name == "AdaptiveLogSoftmaxWithLoss":
        found = {
            "rows": (nn.AdaptiveLogSoftmaxWithLoss(**ADAPTIVE), [rng.standard_normal((7, 8)), np.arange(7) * 3], {}),
            "a row, no bias": (
                nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5]), [rng.standard_normal(8), np.array(11)], {}
            ),
        }  # fmt: skip
    else:
        found = {"settings": (getattr(nn, name)(**SETTINGS[name]), [3 * rng.standard_normal(SHAPE)], {})}
    for module, _, _ in found.values():
        module.eval()
        for parameter in module.parameters():
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32) / 2)
    return found


def of(name):
    """Return the module of the first case of a class."""
    return next(iter(cases(name).values()))[0]


# The largest error of an array in units of the dtype's epsilon, relative to its largest number or 1: about twice the
# measured 1.6, and 6.7 of attention.
TOLERANCE, TOLERANCE_OF_ATTENTION = 3, 12


def assert_like_torch(module, inputs, options, dtype=np.float32):
    """Compare outputs, and gradients of the inputs and of the weights, with torch's in float64."""
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    module = module.to(getattr(torch, np.dtype(dtype).name))
    floats = [i for i, x in enumerate(inputs) if x.dtype.kind == "f"]

    exact = copy.deepcopy(module).double()
    tensors = [torch.from_numpy(x.astype(np.float64)).requires_grad_() if i in floats else torch.from_numpy(x)
               for i, x in enumerate(inputs)]  # fmt: skip
    masks = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    expected = present(exact(*tensors, **masks))
    rng = np.random.default_rng(0)
    cotangents = [rng.standard_normal(y.shape).astype(dtype) for y in expected]
    parameters = dict(exact.named_parameters())
    expected_gradients = torch.autograd.grad(
        expected,
        [*parameters.values(), *(tensors[i] for i in floats)],
        [torch.from_numpy(c.astype(np.float64)) for c in cotangents],
        materialize_grads=True,
    )

    @jax.jit
    def run(net, arrays, cotangents):
        def outputs(net, arrays):
            return present(net(*[arrays.get(i, x) for i, x in enumerate(inputs)], **options))

        y, vjp = jax.vjp(outputs, net, arrays)
        return y, vjp(cotangents)

    y, (dnet, dx) = run(port(module), {i: inputs[i] for i in floats}, [jnp.asarray(c) for c in cotangents])
    assert dnet.args[0].keys() == parameters.keys()
    tolerance = TOLERANCE_OF_ATTENTION if isinstance(module, nn.MultiheadAttention) else TOLERANCE
    gradients = [*(dnet.args[0][name] for name in parameters), *(dx[i] for i in floats)]
    for ours, theirs in zip([*y, *gradients], [*expected, *expected_gradients], strict=True):
        theirs = theirs.detach().numpy()
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        atol = tolerance * np.finfo(dtype).eps * np.max(np.abs(theirs), initial=1)
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, rtol=0, atol=atol)


def present(outputs):
    """Return the outputs of a module as a list, without None."""
    return [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]
