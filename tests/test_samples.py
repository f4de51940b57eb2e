"""The documented samples: jaxact's output is the documented one, and live torch's."""

import dataclasses

import numpy as np
import pytest

import jaxact
from jaxact.catalog import BY_NAME, SAMPLES
from jaxact.interop import parity
from oracle import SELECTING


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.function)
class TestSamples:
    def test_output_prints_as_documented(self, sample):
        y = getattr(jaxact, sample.function)(np.asarray(sample.input), **sample.parameters)
        assert [f"{v:.4f}" for v in y.tolist()] == [f"{v:.4f}" for v in sample.output]

    def test_output_is_torchs(self, sample):
        outcome = parity.check(sample)
        assert outcome.output.ulps <= (0 if sample.function in SELECTING else 1)
        assert outcome.passed

    def test_gradient_is_torchs_or_nearer_to_exact(self, sample):
        gradient = parity.check(sample).gradient
        if gradient is None:
            assert all(isinstance(v, int) for v in sample.input)
        else:
            assert gradient.verdict != "differs"
            # torch computes tanh's as 1 - y^2, which is off by 4e-5 at 4
            np.testing.assert_allclose(gradient.jaxact, gradient.torch, rtol=1e-4)


def test_integers_stay_integers():
    y = jaxact.relu(np.array([-1, 2, -3, 4, 0]))
    assert str(y) == "[0 2 0 4 0]"
    assert y.dtype == np.int32


def test_softmax_sums_to_one():
    assert float(jaxact.softmax(np.float32([1, 2, 3, 4, 5]), dim=0).sum()) == pytest.approx(1, abs=2**-23)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if isinstance(s.input[0], float)], ids=lambda s: s.function)
def test_a_wrong_function_is_caught(sample, monkeypatch):
    """A check that cannot fail shows nothing: here each function is wrong by 1 percent."""
    right = BY_NAME[sample.function]
    wrong = dataclasses.replace(right, function=lambda x, **p: right.function(x, **p) * np.float32(1.01))
    monkeypatch.setitem(BY_NAME, sample.function, wrong)
    outcome = parity.check(sample)
    assert not outcome.passed
    assert outcome.output.verdict == outcome.gradient.verdict == "differs"
