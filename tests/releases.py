"""What is called otherwise in some of the supported releases of JAX."""

import jax

set_mesh = getattr(jax, "set_mesh", None) or jax.sharding.use_mesh  # the name from jax 0.8 on
