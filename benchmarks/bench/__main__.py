"""``python -m jaxact.bench``: the command alone."""

import typer

from .command import bench

if __name__ == "__main__":
    typer.run(bench)
