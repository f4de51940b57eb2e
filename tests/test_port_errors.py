"""port: what it refuses, and what the error says."""

import pytest
import torch
from torch import nn

from jaxact.interop import port


class Doubled(nn.ReLU):
    def forward(self, input):
        return 2 * super().forward(input)


def changed(module, change):
    change(module)
    return module


def with_forward(module):
    module.forward = torch.sin


def with_computed_projection(module):
    nn.utils.parametrizations.weight_norm(module.out_proj)


UNKNOWN = r"none of torch's activation modules.*jaxact\.interop\.as_jax takes any module"


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (3, TypeError, r"port: module must be a torch\.nn\.Module, got int"),
        (nn.ReLU, TypeError, r"got type"),
        (torch.sin, TypeError, r"got builtin_function_or_method; .* same names in jaxact"),
        (nn.Linear(2, 3), TypeError, f"port: Linear is {UNKNOWN}"),
        (nn.Dropout(), TypeError, f"port: Dropout is {UNKNOWN}"),
        (nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Linear(2, 3))), TypeError, f"Linear at 1.1 is {UNKNOWN}"),
        (Doubled(), TypeError, "Doubled is a subclass of ReLU, which may compute something else; .*as_jax"),
        (type("Chained", (nn.Sequential,), {})(), TypeError, "Chained is a subclass of Sequential"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), TypeError, "Sequential passes one input, and MultiheadAttention"),
        (
            nn.Sequential(nn.Tanh(), nn.Sequential(nn.Softmax())),
            ValueError,
            r"Softmax at 1.0 has dim=None.*set its dim first",
        ),
        (nn.ELU(torch.tensor(2.0)), TypeError, "ELU holds a Tensor where one of its parameters or a number should be"),
        (changed(nn.Tanh(), with_forward), ValueError, "Tanh has a forward method of its own"),
        (
            changed(nn.PReLU(), lambda m: m.register_parameter("other", nn.Parameter(torch.ones(1)))),
            ValueError,
            "torch's modules have no parameters other, .*as_jax",
        ),
        (changed(nn.PReLU(), nn.utils.parametrizations.weight_norm), TypeError, "ParametrizedPReLU is a subclass of"),
        (
            changed(nn.MultiheadAttention(4, 2), with_computed_projection),
            TypeError,
            "ParametrizedNonDynamicallyQuantizableLinear at out_proj is a subclass",
        ),
        (
            changed(nn.AdaptiveLogSoftmaxWithLoss(8, 9, [4]), lambda m: m.tail[0].append(nn.ReLU())),
            TypeError,
            f"ReLU at tail.0.2 is {UNKNOWN}",
        ),
        (
            changed(nn.AdaptiveLogSoftmaxWithLoss(8, 9, [4]), lambda m: m.tail[0].append(nn.Linear(5, 5, bias=False))),
            ValueError,
            "no parameters tail.0.2.weight",
        ),
    ],
    ids=lambda value: None if isinstance(value, (str, type)) else type(value).__name__,
)
def test_errors(module, error, message):
    with pytest.raises(error, match=message):
        port(module)


@pytest.mark.parametrize(
    "register",
    [
        lambda m: m.register_forward_hook(lambda m, x, y: 2 * y),
        lambda m: m.register_forward_pre_hook(lambda m, x: None),
        lambda m: m.register_full_backward_hook(lambda m, dx, dy: None),
        lambda m: m.register_full_backward_pre_hook(lambda m, dy: None),
    ],
    ids=["forward", "forward pre", "backward", "backward pre"],
)
def test_hooks_are_refused(register):
    module = nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh()))
    for part, where in ((module, "Sequential"), (module[1], "Sequential at 1"), (module[1][0], "Tanh at 1.0")):
        handle = register(part)
        with pytest.raises(ValueError, match=f"port: {where} has hooks, .*as_jax"):
            port(module)
        handle.remove()
    port(module)
