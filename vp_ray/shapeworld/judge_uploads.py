"""What clients upload: the parts of a form, and the requests in the lines of a batch file."""

from __future__ import annotations

import json
from email import policy
from email.parser import BytesParser
from typing import Any

from vp_ray.shapeworld.config import BatchDeskSettings
from vp_ray.shapeworld.judge_errors import RequestError


def read_upload(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The file name (empty for plain fields) and content of each part of a multipart form, by the part's name."""
    message = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    if not message.is_multipart():
        raise RequestError("The body is not a multipart form", "invalid_form")
    parts: dict[str, tuple[str, bytes]] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        parts[str(name)] = (part.get_filename() or "", data if isinstance(data, bytes) else b"")
    return parts


def read_lines(
    data: bytes, endpoint: str, settings: BatchDeskSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a batch file for one endpoint, and what is wrong with it line by line."""
    lines: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, text in enumerate(data.splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            errors.append({"code": "invalid_json_line", "line": number, "message": "This line is not valid JSON."})
            continue
        match line:
            case {"custom_id": str(name), "method": "POST", "url": str(url), "body": dict()} if url == endpoint:
                if name in seen:
                    message = f"The custom_id {name!r} is there twice."
                    errors.append({"code": "duplicate_custom_id", "line": number, "message": message})
                seen.add(name)
                lines.append(line)
            case _:
                message = f"A line needs custom_id, method POST, url {endpoint} and body."
                errors.append({"code": "invalid_request", "line": number, "message": message})
    if not lines and not errors:
        errors.append({"code": "empty_file", "line": None, "message": "The file has no requests."})
    models = {line["body"].get("model") for line in lines}
    if len(models) > 1:
        message = f"All requests of a batch must name one model, not {len(models)}."
        errors.append({"code": "mismatched_model", "line": None, "message": message})
    if len(lines) > settings.max_requests:
        message = f"The file has {len(lines)} requests, more than {settings.max_requests}."
        errors.append({"code": "too_many_requests", "line": None, "message": message})
    return lines, errors
