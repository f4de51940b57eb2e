"""What ``jaxact bench`` measures and prints, installed with the package: speed beside torch and ``jax.nn``."""
