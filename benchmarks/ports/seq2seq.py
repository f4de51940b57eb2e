"""torch's own TransformerEncoder and TransformerDecoder, post-norm, in plain JAX on their fused weights."""

import math

import jax
import jax.numpy as jnp
from torch import nn

from .corpus import Port, normal, randomised, weights_of

DIM, HEADS, HIDDEN, LAYERS = 16, 2, 24, 2


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        options = {"dropout": 0.1, "activation": "gelu", "batch_first": True}
        encoder = nn.TransformerEncoderLayer(DIM, HEADS, HIDDEN, **options)
        decoder = nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, **options)
        self.encoder = nn.TransformerEncoder(encoder, LAYERS, nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, LAYERS)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        return self.decoder(target, self.encoder(source), tgt_mask=mask, tgt_is_causal=True)


def make(seed, wrong, dtype):
    module = randomised(Translator(), seed, dtype)
    w = weights_of(module)

    def linear(x, p):
        return x @ w[f"{p}.weight"].T + w[f"{p}.bias"]

    def norm(x, p):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        eps = 1e-3 if wrong("eps", p) else 1e-5  # cause: eps
        return (x - mean) / jnp.sqrt(variance + eps) * w[f"{p}.weight"] + w[f"{p}.bias"]  # mistake: eps

    def attention(x, y, p, causal=False):
        """Attend from x to y."""
        weights = jnp.split(w[f"{p}.in_proj_weight"], 3)
        biases = jnp.split(w[f"{p}.in_proj_bias"], 3)
        (wq, wk, wv), (bq, bk, bv) = weights, biases
        q = x @ wq.T + bq
        k, v = y @ wk.T + bk, y @ wv.T + (bk if wrong("bias-of-key", p) else bv)  # mistake: bias-of-key
        q, k, v = (t.reshape(*t.shape[:2], HEADS, DIM // HEADS).swapaxes(1, 2) for t in (q, k, v))
        scale = math.sqrt(DIM if wrong("scale", p) else DIM // HEADS)  # cause: scale
        scores = q @ k.mT / scale  # mistake: scale
        if causal and not wrong("no-mask", p):
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)  # mistake: no-mask
        z = jax.nn.softmax(scores, -1) @ v
        if wrong("one-head", p):
            z = jnp.broadcast_to(z.mean(1, keepdims=True), z.shape)  # mistake: one-head
        return linear(z.swapaxes(1, 2).reshape(x.shape), f"{p}.out_proj")

    def feed_forward(x, p):
        h = jax.nn.gelu(linear(x, f"{p}.linear1"), approximate=wrong("tanh-gelu", p))  # mistake: tanh-gelu
        return linear(h, f"{p}.linear2")

    def encode(x):
        for i in range(LAYERS):
            p = f"encoder.layers.{i}"
            if wrong("pre-norm", p):
                x = x + attention(norm(x, f"{p}.norm1"), norm(x, f"{p}.norm1"), f"{p}.self_attn")  # mistake: pre-norm
            else:
                x = norm(x + attention(x, x, f"{p}.self_attn"), f"{p}.norm1")
            x = norm(x + feed_forward(x, p), f"{p}.norm2")
        return x if wrong("no-last-norm") else norm(x, "encoder.norm")  # mistake: no-last-norm

    def decode(x, memory):
        for i in range(LAYERS):
            p = f"decoder.layers.{i}"
            x = norm(x + attention(x, x, f"{p}.self_attn", causal=True), f"{p}.norm1")
            source = x if wrong("self-for-cross", p) else memory  # cause: self-for-cross
            h = attention(x, source, f"{p}.multihead_attn")  # mistake: self-for-cross
            x = h if wrong("no-residual", p) else x + h  # mistake: no-residual
            x = norm(x, f"{p}.norm2")
            x = norm(x + feed_forward(x, p), f"{p}.norm3")
        return x

    def forward(source, target):
        memory = encode(source)  # mistake: no-last-norm
        memory = jax.lax.stop_gradient(memory) if wrong("stop-gradient") else memory  # mistake: stop-gradient
        return decode(target, memory)

    source, target = normal(seed, (2, 6, DIM), dtype), normal(seed + 100, (2, 5, DIM), dtype)
    return forward, module, (source, target)


PORT = Port(
    "seq2seq-jax",
    make,
    {
        "eps@encoder.layers.0.norm1": ("encoder.layers.0.norm1",),
        "bias-of-key@encoder.layers.1.self_attn": ("encoder.layers.1.self_attn",),
        "scale@decoder.layers.0.multihead_attn": ("decoder.layers.0.multihead_attn",),
        "no-mask@decoder.layers.0.self_attn": ("decoder.layers.0.self_attn",),
        "one-head@decoder.layers.1.self_attn": ("decoder.layers.1.self_attn",),
        # torch's layers call F.gelu: there is no module for it.
        "tanh-gelu@decoder.layers.0": ("decoder.layers.0",),
        "tanh-gelu@encoder.layers.1": ("encoder.layers.1",),
        "pre-norm@encoder.layers.1": ("encoder.layers.1.self_attn", "encoder.layers.1"),
        "no-last-norm": ("encoder.norm", "encoder"),
        "self-for-cross@decoder.layers.1": ("decoder.layers.1.multihead_attn", "decoder.layers.1"),
        "no-residual@decoder.layers.0": ("decoder.layers.0",),
        "stop-gradient": ("encoder", "encoder.norm", ""),
    },
    gradients_only=frozenset({"stop-gradient"}),
    pairs=("bias-of-key@encoder.layers.1.self_attn+no-residual@decoder.layers.0",),
)
