"""vp_ray: align text-to-image models with AI feedback, from prompts to a better model, on Ray."""

__version__ = "0.1.0"
