"""`vp-ray export` and `--push` as a user types them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vp_ray.cli import main
from vp_ray.errors import InputError, SettingsError, StorageError
from vp_ray.publish.job import Exported
from vp_ray.publish.push import plan_upload, push
from vp_ray.storage import RunFolder

TOKEN = "hf_only_for_this_test"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["export", *arguments])
        return int(str(stop.value.code)), *capsys.readouterr()

    return run


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection fails, so that a dry run which opens one is noticed."""

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_it_writes_says_how_much_and_takes_settings(
    said: Callable[..., tuple[int, str, str]], finished_run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "terms.yaml").write_text("licence: cc0-1.0\ntitle: Shapes\n")
    words = ("--out", str(tmp_path / "out"), "--settings", str(tmp_path / "terms.yaml"))
    code, out, err = said(finished_run.uri, *words, "--set", "title=Better shapes")
    assert code == 0, err
    assert "40 prompts" in out
    assert "160 images" in out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "# Better shapes" in card


def test_a_misspelt_setting_is_named(
    said: Callable[..., tuple[int, str, str]], finished_run: RunFolder, tmp_path: Path
) -> None:
    code, _, err = said(finished_run.uri, "--out", str(tmp_path / "out"), "--set", "license=mit")
    assert code == 2
    assert "there is no key 'license' (did you mean 'licence'?)" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_network", "no_token")
def test_a_dry_run_lists_files_sizes_and_target_without_network_or_token(
    said: Callable[..., tuple[int, str, str]], exported: Exported, finished_run: RunFolder
) -> None:
    words = ("--out", str(exported.folder), "--push", "someone/shapes", "--dry-run")
    code, out, err = said(finished_run.uri, *words)
    assert code == 0, err
    lines = out.splitlines()
    paths = [path for path in exported.folder.rglob("*") if path.is_file()]
    for path in paths:
        name = path.relative_to(exported.folder).as_posix()
        assert any(line.endswith(f"{path.stat().st_size:,} B  {name}") for line in lines)
    assert len(lines) == len(paths) + 1
    total = sum(path.stat().st_size for path in paths)
    assert f"{total:,} B  would go to https://huggingface.co/datasets/someone/shapes (private where it is new)" in out


@pytest.mark.usefixtures("no_network", "no_token")
def test_without_a_token_the_remedy_is_named(
    said: Callable[..., tuple[int, str, str]], exported: Exported, finished_run: RunFolder
) -> None:
    code, _, err = said(finished_run.uri, "--out", str(exported.folder), "--push", "someone/shapes")
    assert code == 2
    assert "there is no token for the Hugging Face Hub. Run `hf auth login`, or set HF_TOKEN." in err


def test_what_cannot_be_pushed_is_refused(
    said: Callable[..., tuple[int, str, str]], exported: Exported, finished_run: RunFolder, tmp_path: Path
) -> None:
    for name in ("shapes", "a/b/c", "some one/shapes", ""):
        with pytest.raises(SettingsError, match="this is no name of a repository"):
            plan_upload(exported.folder, name, private=True)
    with pytest.raises(InputError, match="holds no exported data set"):
        plan_upload(tmp_path, "someone/shapes", private=True)
    code, _, err = said(finished_run.uri, "--out", str(tmp_path / "out"), "--dry-run")
    assert code == 2
    assert "Add --push OWNER/NAME" in err


def test_a_stray_file_beside_the_data_set_is_not_sent(exported: Exported) -> None:
    stray = exported.folder / ".env"
    stray.write_text("HF_TOKEN=x")
    try:
        assert ".env" not in [name for name, _ in plan_upload(exported.folder, "someone/shapes", private=True).files]
    finally:
        stray.unlink()


class Hub(BaseHTTPRequestHandler):
    """Says no to whoever asks, and remembers what was asked."""

    asked: list[tuple[str, dict]] = []  # noqa: RUF012 - shared by design, cleared by the fixture

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.path, json.loads(body or b"{}")))
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"error": "You do not have the rights."}')

    def log_message(self, *arguments: object) -> None:
        """Stays quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refusal_of_the_hub_is_one_sentence_without_the_token(hub: str, exported: Exported) -> None:
    upload = plan_upload(exported.folder, "someone/shapes", private=True)
    with pytest.raises(StorageError) as told:
        push(upload)
    assert f"{hub}/datasets/someone/shapes: the upload failed" in str(told.value)
    assert "403" in str(told.value)
    assert TOKEN not in str(told.value)
    path, asked = Hub.asked[0]
    assert path == "/api/repos/create"
    assert asked["type"] == "dataset"
    assert asked["name"] == "shapes"
    assert asked.get("private", asked.get("visibility")) in (True, "private")
