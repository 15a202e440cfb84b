"""The command line. Heavy modules are imported by the command that needs them, so that `--help` answers at once."""

from vp_ray.cli.program import app, main

__all__ = ["app", "main"]
