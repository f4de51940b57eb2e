"""Attention: wrong arguments are refused with a message that helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_cases import mha_arguments, tensor
from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention

X = np.ones((2, 3, 4), np.float32)


class TestErrors:
    """What torch rejects is a TypeError or a ValueError here, with a message that says what came."""

    @pytest.mark.parametrize(
        ("arrays", "options", "message"),
        [
            ((X[0, 0],) * 3, {}, "at least 2 axes"),
            ((X[0],) * 3, {"enable_gqa": True}, "at least 3 axes"),
            ((X, X[..., :3], X), {}, r"last axes of query and key.*\(2, 3, 4\), key \(2, 3, 3\)"),
            ((X, X, X[:, :2]), {}, "axes -2 of key and value"),
            ((X, np.ones((3, 3, 4), np.float32), X), {"enable_gqa": True}, "numbers of heads"),
            ((X, np.ones((3, 3, 4), np.float32), X), {}, "leading axes.*enable_gqa"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), bool), "is_causal": True}, "exclude each other"),
            ((X,) * 3, {"attn_mask": np.ones((3, 4), bool)}, r"broadcast to.*\(2, 3, 3\), got shape \(3, 4\)"),
            ((X[0],) * 3, {"attn_mask": np.ones((2, 3, 3), bool)}, "broadcast to"),
            ((X,) * 3, {"dropout_p": 0.5}, "needs dropout_key"),
            ((X,) * 3, {"dropout_p": 1.5}, r"in \[0, 1\], got 1.5"),
            ((X,) * 3, {"dropout_p": -0.1}, "in .0, 1., got -0.1"),
            ((X,) * 3, {"dropout_p": np.nan}, "in .0, 1., got nan"),
            ((X,) * 3, {"scale": np.ones(2)}, "scale must be a number"),
        ],
    )
    def test_sdpa_wrong_value(self, arrays, options, message):
        with pytest.raises(ValueError, match=f"^scaled_dot_product_attention: .*{message}"):
            scaled_dot_product_attention(*arrays, **options)

    @pytest.mark.parametrize(
        ("arrays", "options", "message"),
        [
            ((X.astype(int),) * 3, {}, "query of dtype int32 is not accepted"),
            ((X.astype(bool),) * 3, {}, "query of dtype bool"),
            ((X.astype(complex),) * 3, {}, "query of dtype complex64"),
            ((X, X.astype(np.float16), X), {}, "key must be of the dtype of query, float32, got float16"),
            ((X, X, X.tolist()), {}, "value must be a JAX or NumPy array.*got list"),
            ((X, tensor(X), X), {}, "key must be .*to_jax"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), int)}, "attn_mask must be boolean, float32"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), np.float16)}, "attn_mask must be boolean, float32"),
            ((X,) * 3, {"is_causal": 1}, "is_causal must be True or False.*got 1"),
            ((X,) * 3, {"dropout_p": "0.1"}, "dropout_p must be a number"),
            ((X,) * 3, {"dropout_p": jax.random.key(0)}, "dropout_p cannot be a"),
            ((X,) * 3, {"dropout_p": np.array([0.1])}, "dropout_p cannot be a ndarray"),
            ((X,) * 3, {"is_causal": np.array([True])}, "is_causal must be True or False"),
            ((X,) * 3, {"dropout_p": 0.1, "dropout_key": 0}, "dropout_key must be a JAX PRNG key.*got 0"),
            ((X,) * 3, {"dropout_p": 0.1, "dropout_key": X}, "dropout_key must be a JAX PRNG key"),
            ((X,) * 3, {"scale": 1j}, "scale must be a real number"),
            ((X,) * 3, {"scale": "a"}, "scale must be a JAX or NumPy array or a number"),
        ],
    )
    def test_sdpa_wrong_type(self, arrays, options, message):
        with pytest.raises(TypeError, match=f"^scaled_dot_product_attention: .*{message}"):
            scaled_dot_product_attention(*arrays, **options)

    @pytest.mark.parametrize("true", [np.True_, np.array(True), jnp.array(True)], ids=repr)
    def test_flags_that_are_no_python_values(self, true):
        y = scaled_dot_product_attention(X, X, X, is_causal=true)
        np.testing.assert_array_equal(y, scaled_dot_product_attention(X, X, X, is_causal=True))
        np.testing.assert_array_equal(
            *(multi_head_attention_forward(**mha_changed({"add_zero_attn": t}))[0] for t in (true, True))
        )

    def test_traced_flags_and_probabilities(self):
        for argument, value in {"is_causal": True, "enable_gqa": False, "dropout_p": 0.1}.items():
            with pytest.raises(TypeError, match=f"{argument} must be"):
                jax.jit(lambda x, argument=argument: scaled_dot_product_attention(X, X, X, **{argument: x}))(value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query": (8,)}, "must all be"),
            ({"key": (4, 8), "value": (4, 8)}, "must all be"),
            ({"key": (4, 3, 8), "value": (4, 3, 8)}, "batch size N"),
            ({"value": (5, 2, 8)}, "one length S"),
            ({"embed_dim_to_check": 7}, "embed_dim_to_check=7 features"),
            ({"num_heads": 3}, "num_heads must divide.*8, got 3"),
            ({"num_heads": 0}, "num_heads must divide"),
            ({"num_heads": -2}, "num_heads must divide"),
            ({"key": (4, 2, 6), "value": (4, 2, 6)}, "use_separate_proj_weight=True"),
            ({"in_proj_weight": None}, "needs in_proj_weight"),
            ({"use_separate_proj_weight": True}, "needs q_proj_weight"),
            (
                {"use_separate_proj_weight": True, "q_proj_weight": (8, 8), "k_proj_weight": (8, 5),
                 "v_proj_weight": (8, 8)},
                r"k_proj_weight must be of shape \(8, 8\), got \(8, 5\)",
            ),
            ({"in_proj_weight": (16, 8)}, r"in_proj_weight must be of shape \(24, 8\)"),
            ({"in_proj_bias": (23,)}, "in_proj_bias must be"),
            ({"out_proj_weight": (8, 7)}, "out_proj_weight must be"),
            ({"out_proj_bias": (7,)}, "out_proj_bias must be"),
            ({"bias_k": (1, 1, 8)}, "come together, got only bias_k"),
            ({"bias_k": (1, 1, 8), "bias_v": (1, 2, 8)}, "bias_v must be"),
            ({"bias_k": (1, 1, 8), "bias_v": (1, 1, 8), "static_k": (4, 4, 4)}, "cannot be added to static_k"),
            ({"static_k": (3, 4, 4)}, r"static_k must be of shape \(4, 4, 4\)"),
            ({"static_k": (4, 4, 5)}, "static_k must be"),
            ({"static_k": (4, 6, 4)}, r"of one length S, got \(6,\) and \(4,\)"),
            ({"attn_mask": (3, 5)}, r"attn_mask must be of shape \(3, 4\) or \(4, 3, 4\), got \(3, 5\)"),
            ({"attn_mask": (1, 3, 4)}, "attn_mask must be"),
            ({"attn_mask": (2, 2, 3, 4)}, "attn_mask must be"),
            ({"key_padding_mask": (4,)}, r"key_padding_mask must be of shape \(2, 4\)"),
            ({"key_padding_mask": (2, 5)}, "key_padding_mask must be"),
            ({"is_causal": True}, "is_causal=True is a hint"),
            ({"dropout_p": 0.5}, "needs dropout_key"),
            ({"dropout_p": 2.0}, "in .0, 1., got 2.0"),
        ],
        ids=str,
    )  # fmt: skip
    def test_mha_wrong_value(self, changes, message):
        with pytest.raises(ValueError, match=f"^multi_head_attention_forward: .*({message})"):
            multi_head_attention_forward(**mha_changed(changes))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query": np.ones((3, 2, 8), int)}, "query of dtype int32 is not accepted"),
            ({"in_proj_bias": np.ones(24, np.float16)}, "in_proj_bias must be of the dtype of query"),
            ({"out_proj_weight": None}, "out_proj_weight must be a JAX or NumPy array"),
            ({"attn_mask": np.ones((3, 4), np.uint8)}, "attn_mask must be boolean, float32"),
            ({"key_padding_mask": np.ones((2, 4), int)}, "key_padding_mask must be boolean"),
            ({"num_heads": 2.0}, "num_heads must be an int.*got 2.0"),
            ({"num_heads": True}, "num_heads must be an int.*got True"),
            ({"embed_dim_to_check": "8"}, "embed_dim_to_check must be an int"),
            ({"training": None}, "training must be True or False"),
            ({"need_weights": np.ones(2)}, "need_weights must be True or False"),
        ],
        ids=str,
    )
    def test_mha_wrong_type(self, changes, message):
        with pytest.raises(TypeError, match=f"^multi_head_attention_forward: .*{message}"):
            multi_head_attention_forward(**mha_changed(changes))


def mha_changed(changes):
    """Return arguments of a good call with some changed; a shape stands for an array of it."""
    arrays, options = mha_arguments(np.random.default_rng(0))
    good = {name: x.astype(np.float32) for name, x in arrays.items()}
    changed = {name: np.ones(x, np.float32) if isinstance(x, tuple) else x for name, x in changes.items()}
    return options | good | changed
