"""What every test shares: one thread, a home of its own, tiny embedded models."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Ray writes a token below the home directory, and libraries write caches there: tests get a home of their own.
os.environ["HOME"] = tempfile.mkdtemp(prefix="vp-home-")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Short, since it holds sockets, and of each process: two Rays in one place would find each other.
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="vpr", dir="/tmp")

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one runs all tests of a folder, since they share what is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class FolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0].rpartition("/")[0]

    return FolderScheduling(config, log)


SLOW_FOLDERS = ("tests/end_to_end/", "tests/ray/")
"""They begin, each in a process of its own, so that the short ones fill up what is left in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow folders come first; GPU tests are skipped, out loud, where there is no GPU."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW_FOLDERS))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skipif(True, reason="needs an NVIDIA GPU"))


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the embedded BLIP's shape with random weights."""
    from vp_ray.shapeworld.backbone import new_blip, save_blip, write_bert_tokenizer

    folder = tmp_path_factory.mktemp("tiny_blip")
    tokenizer = write_bert_tokenizer(folder / "words")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_blip(new_blip(tokenizer), tokenizer, folder / "blip")
    return folder / "blip"


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained pipeline directory with the embedded world's parts, but a UNet of one level and 8 channels."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    from vp_ray.shapeworld import architectures

    folder = tmp_path_factory.mktemp("tiny_pipeline")
    tokenizer = architectures.write_clip_tokenizer(folder / "words")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = StableDiffusionPipeline(
            vae=architectures.new_vae(),
            text_encoder=architectures.new_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=architectures.LATENT_SIDE,
                in_channels=4,
                out_channels=4,
                down_block_types=("CrossAttnDownBlock2D",),
                up_block_types=("CrossAttnUpBlock2D",),
                mid_block_type="UNetMidBlock2DCrossAttn",
                block_out_channels=(8,),
                layers_per_block=1,
                cross_attention_dim=64,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            scheduler=architectures.new_scheduler("epsilon"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="session")
def model_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a family's untrained pipeline, by its name in `tests/tiny_models.py`."""
    from tests import tiny_models

    folder, made = tmp_path_factory.mktemp("families"), {}

    def at(name: str) -> Path:
        if name not in made:
            made[name] = tiny_models.write(name, folder)
        return made[name]

    return at


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of a bucket on a real S3 endpoint on loopback; its address is in the environment, for children too."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="vp-ray")
        yield "s3://vp-ray"
    server.stop()
