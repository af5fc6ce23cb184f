"""What is cut out of texts that go to a log or a terminal: keys, and passwords in addresses."""

import re

SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(avgzsl_[0-9a-f]{8}_)[A-Za-z0-9_-]+"), r"\1***"),
    (re.compile(r"//[^/\s]*@"), "//***@"),
)


def redacted(text: str) -> str:
    """Return a text without secrets."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text
