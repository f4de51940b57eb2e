"""The activations as their definitions have them, in mpmath at any precision."""

from mpmath import mp, mpf


def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + mp.exp(-x))


def tanh(x):
    """Return the hyperbolic tangent."""
    return mp.tanh(x)


def value(function, x, **parameters):
    """Return the exact value at the float x, to 60 digits."""
    with mp.workdps(60):
        return function(mpf(float(x)), **parameters)


def derivative(function, x, **parameters):
    """Return the exact derivative at the float x, to some 30 digits."""
    with mp.workdps(200):
        return mp.diff(lambda t: function(t, **parameters), mpf(float(x)))
