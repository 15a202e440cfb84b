"""Keys, tokens and passwords out of whatever is written or shown: logs, errors, tables of answers, manifests."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)(_|$)")
"""Variables of the environment whose values are secrets by their name."""
_SHORTEST: Final = 8
"""A shorter value is no secret worth the name, and would take words out of sentences."""
_FORMS: Final = re.compile(
    r"""
      \bsk-[A-Za-z0-9_*-]{12,}                     # OpenAI and those that copy it, masked in the middle or not
    | \b(?:hf|ghp|gho|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}  # Hugging Face, GitHub, GitLab, Slack
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                # Amazon's key ids
    | \bAIza[A-Za-z0-9_-]{30,}                     # Google
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/=-]{8,}
    | (?<=://)[^\s/@:]+:[^\s/@]+(?=@)              # user:password@ of an address
    | (?<=[?&](?:key|sig)=)[^\s&'"]{8,}
    | (?<=[?&]token=)[^\s&'"]{8,}
    | (?<=[?&]api_key=)[^\s&'"]{8,}
    | (?<=[?&]api-key=)[^\s&'"]{8,}
    """,
    re.VERBOSE,
)
"""What looks like a secret wherever it stands."""


def redact(text: str) -> str:
    """The text with `[redacted]` in place of each secret: values of the environment's own, and what has their form."""
    for secret in _known():
        if secret in text:
            text = text.replace(secret, REDACTED)
    return _FORMS.sub(REDACTED, text)


def keep_secret(value: str) -> str:
    """The value, which this process redacts from now on, whatever its variable is called."""
    if len(value) >= _SHORTEST:
        _kept.add(value)
    return value


def without_secrets(value: Any) -> Any:
    """A copy of a JSON value in which every string, keys included, is redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {without_secrets(key): without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return value


def holds_secret(text: str) -> bool:
    """Whether the text holds what must not stand in a file."""
    return redact(text) != text


_kept: set[str] = set()


def _known() -> list[str]:
    """Values of secret variables and those that were named, longest first: none is cut by a shorter one inside it."""
    found = _kept | {
        value.strip()
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name.upper()) and len(value.strip()) >= _SHORTEST
    }
    return sorted(found, key=len, reverse=True)
