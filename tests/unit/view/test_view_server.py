"""What the loopback server answers, and whom it does not answer."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.listening import addresses_of_port
from tests.small_runs import png
from vp_ray.errors import InputError, StorageError
from vp_ray.storage import Folder
from vp_ray.view.reading import ViewData
from vp_ray.view.server import serving
from vp_ray.view.thumbnails import shrunk


@pytest.fixture(scope="module")
def address(data: ViewData) -> Iterator[str]:
    with serving(data, "shapes", 16) as url:
        yield url


def ask(address: str, path: str, host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
    where = urlsplit(address).netloc
    connection = http.client.HTTPConnection(where, timeout=20)
    connection.request("GET", path, headers={"Host": host or where})
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


def test_the_viewer_takes_connections_on_loopback_alone(address: str) -> None:
    assert addresses_of_port(urlsplit(address).port or 0) == {"127.0.0.1"}


def test_a_thumbnail_is_small_and_the_whole_picture_is_that_of_the_run(address: str, data: ViewData) -> None:
    status, small, headers = ask(address, "/thumbs/0/3.webp?anything")
    assert (status, headers["Content-Type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(small)).size == (16, 16)
    status, whole, headers = ask(address, "/pictures/3")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    stored = Folder(data.images["folder"][3].as_py()).read_table(data.images["part"][3].as_py())
    image_id = data.images["image_id"][3].as_py()
    assert whole in [row["image"]["bytes"] for row in stored.to_pylist() if row["image_id"] == image_id]


@pytest.mark.parametrize(
    "path",
    [
        *("/thumbs/0/99999.webp", "/thumbs/0/-1.webp", "/thumbs/0/x.webp", "/pictures/99999", "/pictures/../index"),
        *("/../../etc/passwd", "/%2e%2e/reading.py", "/page.html", "/data/x.js", "/data/groups/77.js"),
    ],
)
def test_what_is_not_there_is_not_found(address: str, path: str) -> None:
    assert ask(address, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", ""])
def test_a_page_under_another_name_reads_nothing(address: str, host: str) -> None:
    status, body, _ = ask(address, "/data/index.js", host=host or "evil")
    assert status == 403
    assert b"vpTake" not in body


def test_a_port_in_use_is_named(address: str, data: ViewData) -> None:
    port = urlsplit(address).port
    with pytest.raises(StorageError, match=f"127.0.0.1:{port}: the port cannot be used"), serving(data, "x", 16, port):
        pass


def test_thumbnails_keep_the_shape_and_what_is_no_picture_is_named() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = 255
    small = Image.open(io.BytesIO(shrunk(png(pixels), 20, "7"))).convert("RGB")
    assert small.size == (20, 10)
    assert np.asarray(small)[5, 2].max() < 30
    assert np.asarray(small)[5, 17].min() > 225
    exact = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shrunk(png(exact), 64, "7"))).convert("RGB")), exact)
    with pytest.raises(InputError, match="image 7: this cannot be read as an image"):
        shrunk(b"\x89PNG and no more", 20, "7")
