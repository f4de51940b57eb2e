"""The accurate kernels that the families share, a module for each family.

Each kernel works on float32 and float64 arrays, at the dtype it is given, and carries its derivative as a
rule of its own, so that neither loses the tails that the textbook formulas lose. tanh and softmax also take
float16 and bfloat16, for which a cheaper formula in float32 is good enough, and return float32.
"""
