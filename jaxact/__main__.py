"""Start the command line, or say what is missing to do so."""

import sys


def main() -> None:
    """Run the command ``jaxact``."""
    try:
        from jaxact.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f"jaxact: the command line needs {error.name}; install it with: pip install 'jaxact[cli]'")
    except KeyboardInterrupt:
        print("jaxact: interrupted", file=sys.stderr)
        sys.exit(130)
    app()


if __name__ == "__main__":
    main()
