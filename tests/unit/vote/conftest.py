"""A finished evaluation of rendered scenes: the base's are noisy, the tuned model's are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.small_runs import png
from vp_ray.ids import content_id
from vp_ray.records import BASE, IMAGES, SCORES, TUNED
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, prompt_of
from vp_ray.storage import Manifest, RunFolder

HOSTILE = '</h1><script>document.title="taken"</script><img src=x onerror=alert(1)>'


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., RunFolder]:
    """Makes a run whose `evaluate` holds pairs of so many prompts; the first prompt's text is hostile where asked."""

    def make(prompts: int = 4, hostile: bool = False) -> RunFolder:
        run = RunFolder.at(tmp_path / "run")
        images, scores = [], []
        for number, scene in enumerate(list(all_scenes())[100 : 100 + 37 * prompts : 37]):
            prompt = HOSTILE if hostile and number == 0 else prompt_of(scene)
            clean = render(arrange(scene, np.random.default_rng(number), hazard_share=0.0))
            noisy = np.clip(clean + np.random.default_rng(number).normal(0, 40, clean.shape), 0, 255).astype(np.uint8)
            for generator, pixels in ((BASE, noisy), (TUNED, clean)):
                image_id = content_id("image", number, generator)
                row = {"image_id": image_id, "prompt_id": f"p{number}", "prompt": prompt, "generator": generator}
                picture = {"bytes": png(pixels), "path": f"{image_id}.png"}
                images.append(
                    {**row, "seed": 7, "status": "made", "width": 32, "height": 32, "image": picture, "flags": []}
                )
                about = {"image_id": image_id, "prompt_id": f"p{number}", "seed": 7, "generator": generator}
                for scorer, score in (("good", float(generator == TUNED)), ("bad", float(generator == BASE))):
                    scores.append({**about, "scorer": scorer, "aspect": "overall", "score": score})
        folder = run.stage("evaluate")
        folder.write_table("images/one.parquet", pa.Table.from_pylist(images, schema=IMAGES))
        folder.write_table("scores.parquet", pa.Table.from_pylist(scores, schema=SCORES))
        folder.finish(Manifest("evaluate", {}, {}, {}, 1.0))
        return run

    return make
