"""What a command of the command line says when it cannot do what it was asked for."""


class UsageError(ValueError):
    """What was asked for cannot be done; the message says why."""
