"""The service's routes over real HTTP: what it answers, what it refuses, and that one bad image fails alone."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.local_service import Counts, LocalBackend, ask, ask_json, base64_of, encoded, form, scores_of, serving
from tests.unit.reward.test_batching import Held
from tests.unit.reward.test_scoring import Picky
from vp_ray.errors import InputError, RewardError
from vp_ray.models.http_rewards import HttpRewards
from vp_ray.models.reward import VPScore
from vp_ray.reward.api import Access
from vp_ray.reward.bodies import form_parts, read_body
from vp_ray.reward.config import ServiceLimits, ServiceSettings
from vp_ray.reward.failures import STATUS, Kind, ServiceError

LIMITS = ServiceLimits(
    body_megabytes=1.5,
    images=8,
    image_side=500,
    image_megapixels=0.1,
    request_megapixels=0.15,
    prompt_characters=100,
)
COLUMNS = ("prompt_following", "aesthetic", "fidelity", "harmlessness", "overall")


def pictures(count: int, side: int = 32, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


@pytest.fixture(scope="module")
def served(model: VPScore, tiny_blip: Path) -> Iterator[tuple[str, Counts]]:
    scorers = {"ours": model, "other": VPScore.from_backbone(str(tiny_blip), seed=1).eval(), "picky": Picky()}
    with serving(scorers, ServiceSettings(limits=LIMITS)) as found:
        yield found


@pytest.fixture(scope="module")
def url(served: tuple[str, Counts]) -> str:
    return served[0]


def expected(model: VPScore, images: np.ndarray, prompts: list[str]) -> np.ndarray:
    scores = model.score(images, prompts)
    return np.column_stack([scores, model.overall(scores)])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_json_and_forms_give_the_scores_of_the_class_for_every_format(url: str, model: VPScore, kind: str) -> None:
    files = [encoded(image, kind) for image in pictures(3)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    prompts = ["a red circle", "two blue squares", "a red circle"]
    code, reply = ask_json(url, images=[base64.b64encode(file).decode() for file in files], prompts=prompts)
    assert code == 200
    assert (reply["model"], tuple(reply["aspects"])) == ("ours", COLUMNS)
    np.testing.assert_allclose(scores_of(reply, COLUMNS), expected(model, pixels, prompts), atol=1e-5)
    body, content = form([*(("images", file) for file in files), *(("prompts", p.encode()) for p in prompts)])
    assert ask(f"{url}/v1/score", body, content) == (200, reply)


def test_images_of_every_size_are_scaled_as_the_class_scales_them(url: str, model: VPScore) -> None:
    images = [pictures(1, 32)[0], pictures(1, 200)[0], pictures(1, 100)[0][:40]]
    _, reply = ask_json(url, images=[base64_of(image) for image in images], prompts=["a red circle"])
    wanted = np.concatenate([expected(model, image[None], ["a red circle"]) for image in images])
    np.testing.assert_allclose(scores_of(reply, COLUMNS), wanted, atol=1e-5)


def test_aspects_and_the_model_are_chosen_by_the_request(url: str, model: VPScore) -> None:
    image = base64_of(pictures(1)[0])
    _, reply = ask_json(url, images=[image], prompts=["a"], aspects=["overall", "fidelity"], model="other")
    assert reply["aspects"] == ["overall", "fidelity"]
    assert set(reply["results"][0]["scores"]) == {"overall", "fidelity"}
    assert reply["model"] == "other"
    _, default = ask_json(url, images=[image], prompts=["a"], aspects=["fidelity"])
    assert default["results"][0]["scores"]["fidelity"] != reply["results"][0]["scores"]["fidelity"]
    _, listed = ask(f"{url}/v1/models")
    assert [one["id"] for one in listed["models"]] == ["ours", "other", "picky"]
    assert listed["models"][2]["aspects"] == ["length", "brightness"]


def bomb(side: int) -> bytes:
    """A PNG whose header promises `side` x `side` pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(image: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "GIF")
    return sink.getvalue()


def text_bomb(image: np.ndarray) -> bytes:
    info, sink = PngInfo(), io.BytesIO()
    info.add_text("note", "x" * 80_000_000, zip=True)
    Image.fromarray(image).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def test_a_bad_image_fails_alone_with_its_reason_and_the_order_is_kept(url: str, model: VPScore) -> None:
    good = pictures(1)[0]
    whole = encoded(good)
    bad = {
        Kind.UNREADABLE_IMAGE: [whole[:80], b"", gif(good), text_bomb(good)],
        Kind.IMAGE_TOO_LARGE: [encoded(np.zeros((501, 20, 3), np.uint8)), bomb(60_000), encoded(pictures(1, 320)[0])],
    }
    wanted = expected(model, good[None], ["a red circle"])[0]
    for kind, files in bad.items():
        for file in files:
            images = [base64.b64encode(one).decode() for one in (whole, file, whole)]
            code, reply = ask_json(url, images=images, prompts=["a red circle"])
            assert code == 200
            first, failed, last = reply["results"]
            assert set(failed) == {"error"}
            assert failed["error"]["type"] == kind
            for result in (first, last):
                np.testing.assert_allclose([result["scores"][name] for name in COLUMNS], wanted, atol=1e-5)


def test_base64_that_is_none_a_long_prompt_and_a_number_that_is_none_fail_alone(url: str) -> None:
    image = base64_of(pictures(1)[0])
    images = ["%%%", f"data:image/png;base64,{image}", image, image, image]
    _, reply = ask_json(url, images=images, prompts=["a", "bb", "c" * 101, "odd", "bad"], model="picky")
    found = [result.get("error", {}).get("type") or result["scores"]["length"] for result in reply["results"]]
    assert found == ["unreadable_image", 2.0, "prompt_too_long", "not_finite", "model_failed"]


def test_images_beyond_the_requests_pixels_are_refused_and_those_before_are_scored(url: str) -> None:
    images = [base64_of(image) for image in pictures(3, 250)]
    _, reply = ask_json(url, images=images, prompts=["a"])
    assert [result.get("error", {}).get("type") for result in reply["results"]] == [None, None, "image_too_large"]
    assert "together" in reply["results"][2]["error"]["message"]


def test_a_request_without_any_readable_image_still_gets_its_reasons(url: str) -> None:
    code, reply = ask_json(url, images=["AAAA"], prompts=["a"])
    assert (code, reply["results"][0]["error"]["type"]) == (200, "unreadable_image")
    assert tuple(reply["aspects"]) == COLUMNS


IMAGE = base64_of(pictures(1)[0])
REFUSED: list[tuple[dict[str, object], Kind, str]] = [
    ({"prompts": ["a"]}, Kind.INVALID_REQUEST, "are needed"),
    ({"images": [IMAGE]}, Kind.INVALID_REQUEST, "are needed"),
    ({"images": [], "prompts": []}, Kind.INVALID_REQUEST, "no image"),
    ({"images": [IMAGE] * 3, "prompts": ["a", "b"]}, Kind.INVALID_REQUEST, "2 prompts do not fit 3 images"),
    ({"images": IMAGE, "prompts": ["a"]}, Kind.INVALID_REQUEST, "'images' is no list of texts"),
    ({"images": [1], "prompts": ["a"]}, Kind.INVALID_REQUEST, "'images' is no list of texts"),
    ({"images": [IMAGE], "prompts": ["a"], "prompt": "a"}, Kind.INVALID_REQUEST, "no key 'prompt'"),
    ({"images": [IMAGE], "prompts": ["a"], "aspects": []}, Kind.INVALID_REQUEST, "is empty"),
    ({"images": [IMAGE], "prompts": ["a"], "model": 3}, Kind.INVALID_REQUEST, "is no text"),
    ({"images": [IMAGE], "prompts": ["a"], "model": "nobody"}, Kind.UNKNOWN_MODEL, "These are: ours, other, picky"),
    ({"images": [IMAGE], "prompts": ["a"], "aspects": ["beauty"]}, Kind.UNKNOWN_ASPECT, "no aspect 'beauty'"),
    ({"images": [IMAGE] * 9, "prompts": ["a"]}, Kind.TOO_LARGE, "8 are the most"),
]


@pytest.mark.parametrize(("values", "kind", "said"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_with_a_body_is_said(url: str, values: dict[str, object], kind: Kind, said: str) -> None:
    code, reply = ask_json(url, **values)
    assert (code, reply["error"]["type"]) == (STATUS[kind], kind)
    assert said in reply["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "content", "code", "kind"),
    [
        ("/v1/score", b"{", "application/json", 400, "invalid_request"),
        ("/v1/score", b"[" * 100_000, "application/json", 400, "invalid_request"),
        ("/v1/score", b"[]", "application/json", 400, "invalid_request"),
        ("/v1/score", b"\xff", "application/json", 400, "invalid_request"),
        ("/v1/score", b"{}", "text/plain", 415, "unsupported_media_type"),
        ("/v1/score", b"hello", "multipart/form-data", 400, "invalid_request"),
        ("/v1/score", b"hello", "multipart/form-data; boundary=x", 400, "invalid_request"),
        ("/elsewhere", b"{}", "application/json", 404, "not_found"),
        ("/v1/score", None, "application/json", 405, "method_not_allowed"),
    ],
)
def test_other_bodies_and_places_get_typed_errors(
    url: str, path: str, body: bytes | None, content: str, code: int, kind: str
) -> None:
    found, reply = ask(f"{url}{path}", body, content)
    assert (found, reply["error"]["type"]) == (code, kind)


def test_a_body_that_is_too_long_is_refused_before_its_end_with_and_without_a_length(url: str) -> None:
    place = urlsplit(url)
    for chunked in (False, True):
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.putrequest("POST", "/v1/score")
        connection.putheader("Content-Type", "application/json")
        connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "10000000000")))
        connection.endheaders()
        if chunked:
            connection.send(b"".join(b"10000\r\n" + bytes(0x10000) + b"\r\n" for _ in range(24)))
        reply = connection.getresponse()
        assert (reply.status, json.load(reply)["error"]["type"]) == (413, "too_large")
        connection.close()


def test_only_the_token_opens_and_the_health_needs_none(model: VPScore) -> None:
    with serving({"ours": model}, access=Access(token="s3cret", loopback_only=True)) as (url, _):
        image = base64_of(pictures(1)[0])
        body = json.dumps({"images": [image], "prompts": ["a"]}).encode()
        for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            for path, sent in (("/v1/score", body), ("/v1/models", None)):
                code, reply = ask(f"{url}{path}", sent, headers=given)
                assert (code, reply["error"]["type"]) == (401, "unauthorized")
                assert "s3cre" not in json.dumps(reply)
        assert ask(f"{url}/v1/score", body, headers={"Authorization": "Bearer s3cret"})[0] == 200
        code, health = ask(f"{url}/health")
        assert (code, health["token_needed"], health["models"]) == (200, True, ["ours"])


def test_a_page_of_another_site_cannot_reach_a_service_on_loopback(url: str, model: VPScore) -> None:
    for path in ("/health", "/v1/models", "/", "/docs"):
        code, reply = ask(f"{url}{path}", headers={"Host": "evil.example"})
        assert (code, reply["error"]["type"]) == (403, "forbidden_host")
    assert ask(f"{url}/health", headers={"Host": "localhost:8000"})[0] == 200
    with serving({"ours": model}, access=Access(token="s", loopback_only=False)) as (open_url, _):
        assert ask(f"{open_url}/health", headers={"Host": "scores.example"})[0] == 200


def test_requests_of_many_clients_share_passes_and_each_prompt_is_read_once(
    served: tuple[str, Counts], model: VPScore
) -> None:
    url, counts = served
    images = pictures(24, seed=5)
    passes = len(counts.passes)
    with ThreadPoolExecutor(12) as pool:
        replies = [*pool.map(lambda image: ask_json(url, images=[base64_of(image)], prompts=["a red circle"]), images)]
    wanted = expected(model, images, ["a red circle"] * 24)
    np.testing.assert_allclose(np.concatenate([scores_of(r, COLUMNS) for _, r in replies]), wanted, atol=1e-5)
    ours = counts.passes[passes:]
    assert sum(one.images for one in ours) == 24
    assert len(ours) < 24
    assert all(one.prompts == 1 for one in ours)


def test_failures_are_counted_by_their_kind(served: tuple[str, Counts]) -> None:
    url, counts = served
    before, requests = counts.failures.copy(), counts.requests["http"]
    ask_json(url, images=["AAAA", IMAGE, "AAAA"], prompts=["a"])
    ask_json(url, images=[IMAGE], prompts=["a"], model="nobody")
    assert counts.failures - before == {"unreadable_image": 2, "unknown_model": 1}
    assert counts.requests["http"] - requests == 2


def test_the_openapi_document_names_every_route_error_and_both_bodies(url: str) -> None:
    _, document = ask(f"{url}/openapi.json")
    assert set(document["paths"]) == {"/v1/score", "/v1/models", "/health"}
    score = document["paths"]["/v1/score"]["post"]
    assert set(score["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "401", "404", "413", "415", "503", "504"} <= set(score["responses"])
    assert document["components"]["schemas"]["Kind"]["enum"] == [kind.value for kind in Kind]


def test_the_handles_way_refuses_whole_requests_and_counts_them(model: VPScore) -> None:
    backend = LocalBackend({"ours": model, "picky": Picky()}, ServiceSettings())
    replica, images = backend.replica, pictures(2)
    try:
        scores = asyncio.run(replica.score("ours", images, ["a", "b"]))
        np.testing.assert_allclose(scores, model.score(images, ["a", "b"]), atol=1e-5)
        for wrong, prompts in ((images.astype(np.float32), ["a", "b"]), (images, ["a"]), (images[:0], [])):
            with pytest.raises(InputError):
                asyncio.run(replica.score("ours", wrong, prompts))  # type: ignore[arg-type]
        with pytest.raises(RewardError, match="length of image 1"):
            asyncio.run(replica.score("picky", images, ["a", "odd"]))
        with pytest.raises(ServiceError, match="no model 'nobody'"):
            asyncio.run(replica.score("nobody", images, ["a", "b"]))
    finally:
        replica.close()
    assert backend.counts.requests["handle"] == 6
    assert set(backend.counts.failures) == {"invalid_request", "not_finite", "unknown_model"}


def test_a_replica_whose_pass_takes_too_long_is_not_healthy_and_is_again_when_the_pass_ends() -> None:
    scorer = Held()
    backend = LocalBackend({"held": scorer}, ServiceSettings(stuck_after_seconds=0.05))
    replica = backend.replica

    async def watch() -> None:
        replica.check_health()
        asked = asyncio.create_task(replica.score("held", pictures(1), ["a"]))
        assert await asyncio.to_thread(scorer.began.acquire, timeout=30)
        replica.check_health()
        await asyncio.sleep(0.1)
        with pytest.raises(RewardError, match="a batch is stuck"):
            replica.check_health()
        scorer.may_go.release()
        await asked
        replica.check_health()

    try:
        asyncio.run(watch())
    finally:
        replica.close()


def test_forms_are_read_as_browsers_write_them() -> None:
    head = b'ignored\r\n--b\r\nX-Other: 1\r\ncontent-disposition: form-data; filename="x"; name="images"\r\n\r\n'
    data = b"\r\n--not\r\n\x00--b"
    assert [*form_parts(head + data + b"\r\n--b--\r\n", b"b")] == [("images", data)]
    for cut in (head + data, head + data + b"\r\n--b", data, head[:-4] + b"\r\n--b--"):
        with pytest.raises(ServiceError, match="broken"):
            [*form_parts(cut, b"b")]
    body, _ = form([("images", b"\r\n-"), ("prompts", "ä".encode())], "xY")
    request = read_body('multipart/form-data; boundary="xY"', body, LIMITS)
    assert (request.images, request.prompts) == ((b"\r\n-",), ("ä",))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([("picture", b"")], "no field 'picture'"),
        ([("model", b"a"), ("model", b"b")], "several models"),
        ([("prompts", b"a")] * 81, "more than 80 parts"),
        ([("prompts", b"\xff")], "not UTF-8"),
    ],
)
def test_forms_with_other_fields_are_refused(parts: list[tuple[str, bytes]], said: str) -> None:
    body, content = form(parts)
    with pytest.raises(ServiceError, match=said):
        read_body(content, body, LIMITS)


def test_rewards_over_http_are_those_of_the_class_and_errors_name_their_cause(url: str, model: VPScore) -> None:
    rewards, images = HttpRewards(url), pictures(4, seed=9)
    assert rewards.aspects == model.aspects
    pending = [rewards.request(images[:count], ["a red circle"] * count) for count in (4, 1, 3)]
    for count, answer in zip((4, 1, 3), pending, strict=True):
        wanted = model.score(images[:count], ["a red circle"] * count)
        np.testing.assert_allclose(answer.result(60), wanted, atol=1e-5)
    with pytest.raises(RewardError, match="image 1 of the batch got no score"):
        HttpRewards(url, model="picky").request(images[:2], ["a", "odd"]).result(60)
    with pytest.raises(RewardError, match="the request has 9 images"):
        rewards.request(pictures(9), ["a"] * 9).result(60)
    with pytest.raises(RewardError, match="has no model 'nobody'"):
        HttpRewards(url, model="nobody")
    with pytest.raises(InputError, match="2 prompts do not fit"):
        rewards.request(images[:1], ["a", "b"])
    with pytest.raises(RewardError, match="did not answer in 2 attempts"):
        HttpRewards("http://127.0.0.1:9", attempts=2)
    with pytest.raises(InputError, match="no address"):
        HttpRewards("localhost")
