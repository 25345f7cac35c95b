"""Tokens, where they are shown and what they are for; origins of pages."""

from hashlib import sha256
from pathlib import Path

import pytest

from audiomamba.errors import ConfigError, ProtocolError
from audiomamba.streaming.server.access import SCOPES, Access, Shown
from audiomamba.streaming.server.config import ListenConfig


def access(*tokens: str, query_token: bool = False) -> Access:
    return Access(ListenConfig(tokens=list(tokens), query_token=query_token))


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"authorization": "Bearer a"}, Shown("header", "a")),
        ({"authorization": "token a"}, Shown("header", "a")),
        ({"x-api-key": "a"}, Shown("header", "a")),
        ({"authorization": "Bearer a", "x-api-key": "b"}, Shown("header", "a")),
        ({"sec-websocket-protocol": "audiomamba.v1, bearer.a"}, Shown("subprotocol", "a")),
        ({"x-api-key": "b", "sec-websocket-protocol": "bearer.a"}, Shown("header", "b")),
        ({"authorization": "Basic a"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_first_place_that_shows_a_token_counts(
    headers: dict[str, str], shown: Shown | None
) -> None:
    assert access("a").shown(headers, "token=q") == shown


def test_a_token_in_the_address_counts_only_where_it_is_allowed() -> None:
    assert access("a").shown({}, "token=q") is None
    assert access("a", query_token=True).shown({}, "x=1&token=q") == Shown("query", "q")


def test_without_tokens_everybody_may_do_everything() -> None:
    for scope in SCOPES:
        access().check(None, scope)
    assert not access().guarded


def test_a_token_is_for_its_scopes_and_without_any_not_for_admin() -> None:
    rules = access("plain", "chief admin", "both transcribe,admin", f"sha256:{_hex('hidden')}")
    assert rules.allows("plain", "transcribe") and rules.allows("plain", "generate")
    assert rules.allows("plain", "admin") is False
    assert rules.allows("chief", "admin") and rules.allows("chief", "transcribe") is False
    assert rules.allows("both", "transcribe") and rules.allows("both", "admin")
    assert rules.allows("hidden", "transcribe")
    assert rules.allows("nobody", "transcribe") is None
    assert rules.allows(f"sha256:{_hex('hidden')}", "transcribe") is None


def test_a_refusal_has_the_close_code_of_its_kind() -> None:
    rules = access("chief admin")
    for token, code in [(None, 4401), ("", 4401), ("wrong", 4401), ("chief", 4403)]:
        with pytest.raises(ProtocolError) as caught:
            rules.check(token, "transcribe")
        assert caught.value.close_code == code
        assert "wrong" not in str(caught.value)


def test_a_token_file_has_one_a_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# for the balcony\none\n\n two  admin\n")
    rules = Access(ListenConfig(token_file=str(file)))
    assert rules.allows("one", "transcribe") and rules.allows("two", "admin")
    assert rules.allows("# for the balcony", "transcribe") is None


@pytest.mark.parametrize(("text", "said"), [("", "holds no token"), ("a fly", "no scope 'fly'")])
def test_a_token_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=said):
        Access(ListenConfig(token_file=str(tmp_path / "tokens")))
    with pytest.raises(ConfigError, match="token_file"):
        Access(ListenConfig(token_file=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        (None, True),
        ("http://localhost:3000", True),
        ("https://speech.example:8443", True),
        ("https://speech.example", False),
        ("https://listed.example", True),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_a_page_is_welcome_from_here_from_loopback_and_from_the_list(
    origin: str | None, welcome: bool
) -> None:
    rules = Access(ListenConfig(origins=["https://listed.example"]))
    headers = {"host": "speech.example:8443"} | ({"origin": origin} if origin else {})
    assert rules.welcomes(headers) is welcome


def _hex(token: str) -> str:
    return sha256(token.encode()).hexdigest()
