"""What must not stand in a log: passwords, signatures, and the ids whose knowledge is a permission."""

import re
from collections.abc import Iterable

MASK = "***"
_SHORTEST = 6  # characters of a value that is replaced wherever it stands; a shorter one would hit ordinary words

# user:password@ in a URL; what follows the colon is a port, not a password, if it is a number and a slash
_LOGIN = re.compile(r"(\w://[^\s/:@\"']*):(?!\d{1,5}(?:/|\s|$))[^\s\"'<>]*@")
_NAMED = re.compile(
    r"((?:\b(?:sig|secret|signature|credential|token|password|passwd)|x-amz-(?:signature|credential|security-token))=)"
    r"[^&\s\"'<>]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?:authorization|x-volcal-grant)[\"']?\s*[:=]\s*[\"']?(?:bearer |basic )?)[^\s\"',]+", re.IGNORECASE
)
_KEY = re.compile(r"(vk_[0-9a-f]{10}_)[A-Za-z0-9_-]+")  # the public part stays: it says which key
# who knows an upload's id may write to it; four characters tell two lines apart
_UPLOAD = re.compile(r"(/files/[^/?&\s]{1,4}|/in/[^/?&\s-]+-[^/?&\s]{1,4})[^/?&\s\"']*")


class Mask:
    """Replaces secrets in a text.

    >>> Mask()("postgresql://volcal:hush@db:5432/volcal is away")
    'postgresql://volcal:***@db:5432/volcal is away'
    >>> Mask(["much-secret"])("key=much-secret")
    'key=***'
    >>> Mask()("http://gateway:8000/files/abcdefgh?sig=123")
    'http://gateway:8000/files/abcd…?sig=***'

    Args:
        secrets: Values to replace wherever they stand.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Return the text without what must not be told."""
        if self._values is not None:
            text = self._values.sub(MASK, text)
        text = _LOGIN.sub(rf"\1:{MASK}@", text)
        text = _NAMED.sub(rf"\1{MASK}", text)
        text = _KEY.sub(rf"\1{MASK}", text)
        text = _HEADER.sub(rf"\1{MASK}", text)
        return _UPLOAD.sub(r"\1…", text)
