"""Ports of torch models to JAX, right ones and wrong ones, which the comparison of the two is tested on."""

from . import (
    convnet_jax,
    convnet_linen,
    generator_linen,
    gru_jax,
    gru_linen,
    llama,
    llama_nnx,
    lstm,
    mixer_nnx,
    mlp,
    seq2seq,
    t5,
    tcn_eqx,
    transformer_eqx,
    transformer_jax,
    transformer_nnx,
    transformer_scan,
    unet_jax,
    unet_nnx,
    vit,
)
from .corpus import Port, Wrong, defaults

__all__ = ["PORTS", "Port", "Wrong", "defaults"]

PORTS = {
    file.PORT.name: file.PORT
    for file in (
        mlp,
        convnet_jax,
        convnet_linen,
        transformer_jax,
        transformer_nnx,
        transformer_eqx,
        transformer_scan,
        lstm,
        gru_jax,
        gru_linen,
        llama,
        llama_nnx,
        vit,
        unet_jax,
        unet_nnx,
        t5,
        seq2seq,
        mixer_nnx,
        tcn_eqx,
        generator_linen,
    )
}
