"""What is said where torch is asked for and not installed."""


def torch_missing(name: str) -> ModuleNotFoundError:
    """Return the error of a public function, by its name, that needs torch."""
    message = f"{name} needs PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'"
    return ModuleNotFoundError(message, name="torch")
