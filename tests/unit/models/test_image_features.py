from pathlib import Path

import numpy as np

from vp_ray.maths.diversity import feature_variance
from vp_ray.models.image_features import ImageFeatures
from vp_ray.models.reward import VPScore


def test_a_picture_has_the_same_features_in_any_company_and_noise_is_more_diverse_than_its_shadow(
    tiny_blip: Path,
) -> None:
    encoder = ImageFeatures(VPScore.from_backbone(str(tiny_blip)))
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    features = encoder.features(images)
    assert features.shape[0] == 70
    np.testing.assert_allclose(encoder.features(images[65:66]), features[65:66], atol=1e-5)
    near = (images // 16 + 120).astype(np.uint8)
    assert feature_variance(encoder.features(near)) < 0.2 * feature_variance(features)
    assert feature_variance(encoder.features(images[:1].repeat(4, axis=0))) < 1e-6
