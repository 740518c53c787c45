"""What a key looks like, what is kept of it, and what its scopes include."""

import pytest

from app.domain.access import Scope, digest_of, is_digest_of, new_key, prefix_of, scopes_of
from app.observe.masking import Mask


def test_keys_are_never_the_same_and_have_256_random_bits() -> None:
    made = [new_key() for _ in range(200)]
    secrets = {key.split("_", 2)[2] for _, key in made}
    assert len(secrets) == 200
    assert all(len(secret) == 43 for secret in secrets)  # 32 bytes in base64
    assert [prefix_of(key) for _, key in made] == [prefix for prefix, _ in made]


def test_only_the_whole_key_fits_what_is_kept_of_it() -> None:
    _, key = new_key()
    kept = digest_of(key)
    assert is_digest_of(kept, key)
    assert not is_digest_of(kept, key[:-1])
    assert not is_digest_of(kept, key.upper())
    assert key[14:] not in kept


@pytest.mark.parametrize(
    "text", ["", "vk_", "vk_0123456789_", f"vk_012345678g_{'A' * 43}", f"vk_0123456789_{'A' * 44}", "\ud800", "é" * 57]
)
def test_what_has_not_the_form_of_a_key_has_no_public_part(text: str) -> None:
    assert prefix_of(text) is None
    assert len(digest_of(text)) == 64


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["read"], {Scope.READ}),
        (["write"], {Scope.READ, Scope.WRITE}),
        (["admin"], {Scope.READ, Scope.WRITE, Scope.ADMIN}),
        (["read", "admin"], {Scope.READ, Scope.WRITE, Scope.ADMIN}),
    ],
)
def test_a_scope_includes_the_smaller_ones(words: list[str], found: set[Scope]) -> None:
    assert scopes_of(words) == found


@pytest.mark.parametrize("words", [[], ["root"], ["read", ""]])
def test_what_is_no_scope_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"(?i)scope"):
        scopes_of(words)


def test_logs_show_a_keys_public_part_only() -> None:
    prefix, key = new_key()
    assert Mask()(f"said {key}, twice {key}.") == f"said vk_{prefix}_***, twice vk_{prefix}_***."
