"""Text-to-image models by family: one small class each around the parts of a diffusers pipeline."""
