"""`python -m vp_ray` is `vp-ray`."""

from vp_ray.cli import main

main()
