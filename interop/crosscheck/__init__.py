"""Cross-check: is a JAX port equal to the torch function or module it was made from, and where not."""
