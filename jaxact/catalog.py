"""The catalog: one row of facts about each activation, which the tests, the tables and the docs walk.

A row never wraps or makes a function; it names one and says what is known of it. Parameters are keyword
arguments by name, the same for jaxact and for torch.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxact import adaptive, attention, exponential, gated, hard, normalizing, rectifiers, sigmoidal


@dataclass(frozen=True)
class Activation:
    """What is known of one activation.

    Attributes:
        function: The function.
        torch_function: The full name of torch's function, if it has one.
        torch_module: The full name of torch's module class, if it has one.
        range: The values it takes, as an interval.
        use_case: Where it is used.
        advantages: Why.
        parameters: The parameters to show and test it at; empty where the defaults say it all.
        kinks: Where it, or its derivative, is not smooth at these parameters.
        inputs: How many arrays it takes by position, weights and options aside.
        elementwise: Whether each number of the result is made of the number of the input at its place alone.
        torch_method: The method of torch's module that it is.
        torch_parts: The full names of the module classes that torch's module is made of.
    """

    function: Callable[..., Any]
    torch_function: str | None
    torch_module: str | None
    range: str
    use_case: str
    advantages: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kinks: tuple[float, ...] = ()
    inputs: int = 1
    elementwise: bool = True
    torch_method: str = "forward"
    torch_parts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The function's public name."""
        return self.function.__name__

    @property
    def family(self) -> str:
        """The family it belongs to, the name of its module in jaxact."""
        return self.function.__module__.rpartition(".")[2]

    @property
    def piecewise(self) -> bool:
        """Whether it is made of lines and parabolas, so that it has no tails."""
        return self.family in ("rectifiers", "hard")

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the arguments that have no default, the inputs aside: parameters, weights, a key."""
        arguments = [*inspect.signature(self.function).parameters.values()][self.inputs :]
        return tuple(argument.name for argument in arguments if argument.default is argument.empty)

    @property
    def of_one_array(self) -> bool:
        """Whether it can be called on one array at these parameters, without weights or a key."""
        return self.inputs == 1 and set(self.required) <= self.parameters.keys()


CATALOG = (
    Activation(
        function=rectifiers.relu,
        torch_function="torch.nn.functional.relu",
        torch_module="torch.nn.ReLU",
        range="[0, inf)",
        use_case="hidden layers",
        advantages="fast, avoids vanishing gradients",
        kinks=(0.0,),
    ),
    Activation(
        function=rectifiers.relu6,
        torch_function="torch.nn.functional.relu6",
        torch_module="torch.nn.ReLU6",
        range="[0, 6]",
        use_case="mobile networks",
        advantages="bounded, safe at low precision",
        kinks=(0.0, 6.0),
    ),
    Activation(
        function=rectifiers.leaky_relu,
        torch_function="torch.nn.functional.leaky_relu",
        torch_module="torch.nn.LeakyReLU",
        range="(-inf, inf)",
        use_case="hidden layers",
        advantages="solves the dying-ReLU problem",
        parameters={"negative_slope": 0.1},
        kinks=(0.0,),
    ),
    Activation(
        function=rectifiers.prelu,
        torch_function="torch.nn.functional.prelu",
        torch_module="torch.nn.PReLU",
        range="(-inf, inf)",
        use_case="deep convolutional networks",
        advantages="learns its slope",
        parameters={"weight": 0.25},
        kinks=(0.0,),
    ),
    Activation(
        function=rectifiers.rrelu,
        torch_function="torch.nn.functional.rrelu",
        torch_module="torch.nn.RReLU",
        range="(-inf, inf)",
        use_case="small data sets",
        advantages="random slopes regularize",
        kinks=(0.0,),
    ),
    Activation(
        function=rectifiers.threshold,
        torch_function="torch.nn.functional.threshold",
        torch_module="torch.nn.Threshold",
        range="{value} and (threshold, inf)",
        use_case="sparse features",
        advantages="freely chosen cut",
        parameters={"threshold": 0.1, "value": 20.0},
        kinks=(0.1,),
    ),
    Activation(
        function=exponential.elu,
        torch_function="torch.nn.functional.elu",
        torch_module="torch.nn.ELU",
        range="[-alpha, inf)",
        use_case="hidden layers",
        advantages="mean activation near 0",
        parameters={"alpha": 1.5},
        kinks=(0.0,),
    ),
    Activation(
        function=exponential.selu,
        torch_function="torch.nn.functional.selu",
        torch_module="torch.nn.SELU",
        range="[-1.7581, inf)",
        use_case="deep dense networks",
        advantages="keeps mean 0 and variance 1 without normalization",
        kinks=(0.0,),
    ),
    Activation(
        function=exponential.celu,
        torch_function="torch.nn.functional.celu",
        torch_module="torch.nn.CELU",
        range="[-alpha, inf)",
        use_case="hidden layers",
        advantages="smooth for every alpha",
        parameters={"alpha": 2.0},
        kinks=(0.0,),
    ),
    Activation(
        function=exponential.softplus,
        torch_function="torch.nn.functional.softplus",
        torch_module="torch.nn.Softplus",
        range="(0, inf)",
        use_case="positive parameters such as variances",
        advantages="smooth, strictly positive",
        parameters={"beta": 2.0, "threshold": 10.0},
        kinks=(5.0,),
    ),
    Activation(
        function=exponential.logsigmoid,
        torch_function="torch.nn.functional.logsigmoid",
        torch_module="torch.nn.LogSigmoid",
        range="(-inf, 0)",
        use_case="binary losses",
        advantages="no overflow, no loss of digits",
    ),
    Activation(
        function=sigmoidal.sigmoid,
        torch_function="torch.sigmoid",
        torch_module="torch.nn.Sigmoid",
        range="(0, 1)",
        use_case="binary classification",
        advantages="outputs probabilities",
    ),
    Activation(
        function=sigmoidal.tanh,
        torch_function="torch.tanh",
        torch_module="torch.nn.Tanh",
        range="(-1, 1)",
        use_case="hidden layers",
        advantages="zero-centred output",
    ),
    Activation(
        function=sigmoidal.softsign,
        torch_function="torch.nn.functional.softsign",
        torch_module="torch.nn.Softsign",
        range="(-1, 1)",
        use_case="hidden layers",
        advantages="saturates slowly",
        kinks=(0.0,),
    ),
    Activation(
        function=sigmoidal.tanhshrink,
        torch_function="torch.nn.functional.tanhshrink",
        torch_module="torch.nn.Tanhshrink",
        range="(-inf, inf)",
        use_case="sparse coding",
        advantages="passes large inputs, shrinks small ones smoothly",
    ),
    Activation(
        function=gated.silu,
        torch_function="torch.nn.functional.silu",
        torch_module="torch.nn.SiLU",
        range="[-0.2785, inf)",
        use_case="convolutional networks",
        advantages="smooth, not monotonic",
    ),
    Activation(
        function=gated.gelu,
        torch_function="torch.nn.functional.gelu",
        torch_module="torch.nn.GELU",
        range="[-0.1700, inf)",
        use_case="transformers",
        advantages="smooth, weighs inputs by their size",
    ),
    Activation(
        function=gated.mish,
        torch_function="torch.nn.functional.mish",
        torch_module="torch.nn.Mish",
        range="[-0.3088, inf)",
        use_case="object detection",
        advantages="smooth, keeps small negative values",
    ),
    Activation(
        function=gated.glu,
        torch_function="torch.nn.functional.glu",
        torch_module="torch.nn.GLU",
        range="(-inf, inf)",
        use_case="sequence models",
        advantages="a learned gate for each feature",
        elementwise=False,
    ),
    Activation(
        function=hard.hardtanh,
        torch_function="torch.nn.functional.hardtanh",
        torch_module="torch.nn.Hardtanh",
        range="[min_val, max_val]",
        use_case="recurrent networks",
        advantages="cheap tanh",
        parameters={"min_val": -0.5, "max_val": 2.0},
        kinks=(-0.5, 2.0),
    ),
    Activation(
        function=hard.hardsigmoid,
        torch_function="torch.nn.functional.hardsigmoid",
        torch_module="torch.nn.Hardsigmoid",
        range="[0, 1]",
        use_case="mobile networks",
        advantages="cheap sigmoid",
        kinks=(-3.0, 3.0),
    ),
    Activation(
        function=hard.hardswish,
        torch_function="torch.nn.functional.hardswish",
        torch_module="torch.nn.Hardswish",
        range="[-0.375, inf)",
        use_case="mobile networks",
        advantages="cheap silu",
        kinks=(-3.0, 3.0),
    ),
    Activation(
        function=hard.hardshrink,
        torch_function="torch.nn.functional.hardshrink",
        torch_module="torch.nn.Hardshrink",
        range="(-inf, inf)",
        use_case="sparse coding",
        advantages="keeps large values as they are",
        parameters={"lambd": 0.25},
        kinks=(-0.25, 0.25),
    ),
    Activation(
        function=hard.softshrink,
        torch_function="torch.nn.functional.softshrink",
        torch_module="torch.nn.Softshrink",
        range="(-inf, inf)",
        use_case="sparse coding, denoising",
        advantages="continuous",
        parameters={"lambd": 0.25},
        kinks=(-0.25, 0.25),
    ),
    Activation(
        function=normalizing.softmax,
        torch_function="torch.nn.functional.softmax",
        torch_module="torch.nn.Softmax",
        range="(0, 1)",
        use_case="multi-class output",
        advantages="probability distribution",
        parameters={"dim": -1},
        elementwise=False,
    ),
    Activation(
        function=normalizing.softmin,
        torch_function="torch.nn.functional.softmin",
        torch_module="torch.nn.Softmin",
        range="(0, 1)",
        use_case="weights from distances",
        advantages="the smallest gets the most",
        parameters={"dim": -1},
        elementwise=False,
    ),
    Activation(
        function=normalizing.log_softmax,
        torch_function="torch.nn.functional.log_softmax",
        torch_module="torch.nn.LogSoftmax",
        range="(-inf, 0)",
        use_case="multi-class losses",
        advantages="no underflow",
        parameters={"dim": -1},
        elementwise=False,
    ),
    Activation(
        function=normalizing.softmax2d,
        torch_function=None,
        torch_module="torch.nn.Softmax2d",
        range="(0, 1)",
        use_case="segmentation",
        advantages="a distribution over channels for each pixel",
        elementwise=False,
    ),
    Activation(
        function=normalizing.gumbel_softmax,
        torch_function="torch.nn.functional.gumbel_softmax",
        torch_module=None,
        range="(0, 1)",
        use_case="discrete latent variables",
        advantages="differentiable random choice",
        elementwise=False,
    ),
    Activation(
        function=adaptive.adaptive_log_softmax_with_loss,
        torch_function=None,
        torch_module="torch.nn.AdaptiveLogSoftmaxWithLoss",
        range="(-inf, 0]",
        use_case="language models with large vocabularies",
        advantages="rare classes cost little",
        inputs=2,
        elementwise=False,
        torch_parts=("torch.nn.Linear", "torch.nn.ModuleList", "torch.nn.Sequential"),
    ),
    Activation(
        function=adaptive.adaptive_log_softmax_log_prob,
        torch_function=None,
        torch_module="torch.nn.AdaptiveLogSoftmaxWithLoss",
        range="(-inf, 0]",
        use_case="language models with large vocabularies",
        advantages="all classes at once",
        elementwise=False,
        torch_method="log_prob",
    ),
    Activation(
        function=attention.scaled_dot_product_attention,
        torch_function="torch.nn.functional.scaled_dot_product_attention",
        torch_module=None,
        range="convex hull of the values",
        use_case="transformers",
        advantages="every element can look at every other",
        inputs=3,
        elementwise=False,
    ),
    Activation(
        function=attention.multi_head_attention_forward,
        torch_function="torch.nn.functional.multi_head_attention_forward",
        torch_module="torch.nn.MultiheadAttention",
        range="(-inf, inf)",
        use_case="transformers",
        advantages="several learned views of the input",
        inputs=3,
        elementwise=False,
        torch_parts=("torch.nn.modules.linear.NonDynamicallyQuantizableLinear",),
    ),
)

BY_NAME = {row.name: row for row in CATALOG}


@dataclass(frozen=True)
class Sample:
    """A documented sample: what an activation gives for an input, as PyTorch prints it to four decimals.

    Attributes:
        function: The function's name.
        input: The numbers that go in; integers stay integers.
        output: The numbers that come out.
        parameters: The parameters they were documented for.
    """

    function: str
    input: tuple[float, ...]
    output: tuple[float, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


_MIXED = (-1.0, 2.0, -3.0, 4.0, 0.0)

SAMPLES = (
    Sample("relu", _MIXED, (0.0, 2.0, 0.0, 4.0, 0.0)),
    Sample("relu", (-1, 2, -3, 4, 0), (0, 2, 0, 4, 0)),
    Sample("leaky_relu", _MIXED, (-0.1, 2.0, -0.3, 4.0, 0.0), {"negative_slope": 0.1}),
    Sample("sigmoid", _MIXED, (0.2689, 0.8808, 0.0474, 0.9820, 0.5)),
    Sample("tanh", _MIXED, (-0.7616, 0.9640, -0.9951, 0.9993, 0.0)),
    Sample("softmax", (1.0, 2.0, 3.0, 4.0, 5.0), (0.0117, 0.0317, 0.0861, 0.2341, 0.6364), {"dim": 0}),
)
