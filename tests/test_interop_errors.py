"""Conversions: what is no dense array is refused by name with the call that helps, and nothing ends the process."""

import contextlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import Foreign
from no_dense_arrays import NO_DENSE_ARRAYS, quiet, torch_bits

TO = (to_jax, to_torch, to_numpy)


def deleted():
    x = jnp.arange(3.0)
    x.delete()
    return x


def donated():
    x = jnp.arange(1024.0)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x).block_until_ready()
    return x


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(("make", "what", "way_out", "go"), NO_DENSE_ARRAYS.values(), ids=NO_DENSE_ARRAYS)
def test_what_is_no_dense_array(to, make, what, way_out, go):
    x = quiet(make)
    pattern = rf"^{to.__name__}: got (a |an )?.*{re.escape(what.removeprefix('a '))}.*{re.escape(way_out)}"
    for copy in (None, False, True):
        with pytest.raises(TypeError, match=pattern):
            to(x, copy=copy)
    if go is not None:
        to(quiet(lambda: go(x)))


TORCH_DTYPES = sorted({str(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)})


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("wrap", [lambda x: x, Foreign], ids=["tensor", "over DLPack"])
@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_every_dtype_of_torch_is_taken_or_refused_by_name(dtype, wrap, to):
    x = wrap(torch_bits(getattr(torch, dtype.removeprefix("torch."))))
    try:
        to(x)
    except TypeError as error:
        assert re.match(rf"{to.__name__}: got .*({dtype}|cannot be taken over DLPack).*; ", str(error))  # noqa: PT017


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(
    ("shrink", "part"),
    [
        (lambda x: x.untyped_storage().resize_(0), lambda x: x),
        (lambda x: x.untyped_storage().resize_(0), lambda x: x[2:]),
        (lambda x: x.untyped_storage().resize_(12), lambda x: x[::3]),
        (lambda x: x.untyped_storage().resize_(12), lambda x: x.view(2, 2).t()),
        (lambda x: to_jax(x) is x.resize_(100), lambda x: x),
    ],
)
def test_a_storage_that_was_resized(to, shrink, part):
    x = torch.ones(4)
    y = part(x)
    with contextlib.suppress(RuntimeError):
        shrink(x)
    with pytest.raises(
        ValueError, match=rf"{to.__name__}: got a tensor that needs \d+ bytes of a storage that was resi"
    ):
        to(y)


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("make", [deleted, donated])
def test_jax_arrays_that_are_gone(to, make):
    with pytest.raises(ValueError, match=f"{to.__name__}: got a JAX array that was deleted or donated; .*copy=True"):
        to(make())


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap, jax.checkpoint])
def test_traced_by_jax(to, transform):
    x = jnp.ones(3) if transform is jax.vmap else 1.0
    with pytest.raises(TypeError, match=f"{to.__name__}: got a traced JAX array, .*jaxact.interop.as_jax"):
        transform(lambda x: to(x) and x)(x)


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap, torch.func.jacrev])
def test_traced_by_torch_func(to, transform):
    x = torch.ones(3) if transform is torch.func.vmap else torch.tensor(1.0)
    with pytest.raises(TypeError, match=f"{to.__name__}: got a tensor traced by torch.func, .*jaxact.interop.as_torch"):
        transform(lambda x: to(x))(x)


@pytest.mark.parametrize("to", TO)
def test_shards_on_other_processes(to, monkeypatch):
    x = jnp.ones(3)
    monkeypatch.setattr(type(x), "is_fully_addressable", False)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(ValueError, match=r"shards on other processes; gather it with .*process_allgather"):
        to(x)


class TestArguments:
    @pytest.mark.parametrize("to", TO)
    @pytest.mark.parametrize("copy", [0, 1, "no", np.True_], ids=repr)
    def test_copy(self, to, copy):
        with pytest.raises(TypeError, match=f"{to.__name__}: copy must be None, True or False, got {copy!r}"):
            to(np.zeros(1), copy=copy)

    @pytest.mark.parametrize(
        ("to", "device", "error", "message"),
        [
            (to_jax, 0, TypeError, "to_jax: device must be a jax.Device, a sharding, or a name"),
            (to_jax, "abacus", ValueError, "to_jax: there is no device 'abacus', only"),
            (to_jax, "cpu:99", ValueError, "to_jax: there is no device 'cpu:99', only"),
            (to_jax, "cpu:x", ValueError, "to_jax: there is no device 'cpu:x', only"),
            (to_torch, 1.5, TypeError, "to_torch: device must be a torch.device or a name"),
            (to_torch, "abacus", ValueError, "to_torch: there is no device 'abacus'"),
            (to_torch, "meta", ValueError, "to_torch: a meta tensor has no data"),
            (to_torch, "xpu", ValueError, "to_torch: cannot move data to xpu"),
        ],
    )
    def test_device(self, to, device, error, message):
        with pytest.raises(error, match=message):
            to(np.float32([1]), device=device)

    def test_the_devices_that_there_are(self):
        x = np.float32([1, 2])
        cpu = jax.devices("cpu")[0]
        for device in ("cpu", "cpu:0", cpu, jax.sharding.SingleDeviceSharding(cpu)):
            assert to_jax(x, device=device).devices() == {cpu}
        for device in ("cpu", torch.device("cpu")):
            assert to_torch(x, device=device).device == torch.device("cpu")


# Each of these ends the process, or did in some version, where DLPack is called as it is.
ONCE_FATAL = """
import numpy as np, jax, jax.numpy as jnp, torch
from jaxact.interop import to_jax, to_numpy, to_torch
jax.config.update("jax_enable_x64", True)
for dtype in ("bool", "int8", "float16", "bfloat16", "float32", "float64", "complex128", "float8_e5m2"):
    x = np.arange(24).astype(jnp.dtype(dtype)).reshape(2, 3, 4)
    for view in (x[::-1], x[:, ::-1], x[..., ::-1], x[::-1, ::-1, ::-1], x.T[::-1], x[:, 2:0:-1], x[:1, ::-1, :1],
                 x[:0, ::-1], x[:1, :1, ::-2], np.flip(x), np.rot90(x, axes=(1, 2))):
        for writeable in (True, False):
            view = view.view()
            view.flags.writeable = writeable
            for to in (to_jax, to_torch, to_numpy):
                for copy in (None, True):
                    assert to_numpy(to(view, copy=copy)).tobytes() == view.tobytes()
for strided in (torch.ones(4)[::2], torch.ones(3).expand(2, 3), torch.ones(4, 4)[:, 1:3]):
    assert to_jax(strided).shape == strided.shape
print("survived")
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_nothing_ends_the_process():
    done = run(ONCE_FATAL)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


def test_what_would_have_ended_it():
    """If this ever fails, torch takes negative strides, and the copy that they cost can go. Newer releases raise."""
    done = run("import numpy, torch; torch.from_dlpack(numpy.zeros(3)[::-1]); print('taken')")
    assert "Storage size calculation overflowed with sizes=[3] and strides=[-1]" in done.stderr
    assert done.stdout == ""


class TestImports:
    def test_numpy_and_jax_need_no_torch(self):
        program = (
            "import sys\n"
            "sys.modules['torch'] = None  # as if it were not installed\n"
            "import numpy as np\n"
            "from jaxact.interop import to_jax, to_numpy\n"
            "x = np.arange(3.0, dtype='float32')\n"
            "assert to_numpy(x) is x\n"
            "print(*to_numpy(to_jax({'a': x, 'b': [x[::-1], 1.0]}))['a'])\n"
        )
        done = run(program)
        assert done.stdout == "0.0 1.0 2.0\n", done.stderr

    def test_nothing_is_imported_that_the_caller_did_not(self):
        program = (
            "import sys, numpy as np\n"
            "from jaxact.interop import to_jax, to_numpy\n"
            "to_numpy(to_jax([np.zeros(3, 'int8'), np.zeros(3, 'int8')[::-1]]))\n"
            "print([name for name in ('torch', 'jax.experimental.sparse') if name in sys.modules])\n"
        )
        done = run(program)
        assert done.stdout == "[]\n", done.stderr
