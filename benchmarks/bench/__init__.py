"""How fast jaxact is beside torch, ``torch.compile`` and ``jax.nn``: what ``jaxact bench`` measures and prints."""
