import pytest

from audiomamba.streaming.server.resume.tokens import Tokens, new_key


def test_a_token_names_its_stream_to_those_with_the_key() -> None:
    key = new_key()
    token = Tokens(key).sign("ab12")
    assert Tokens(key).read(token) == "ab12"
    assert Tokens(new_key()).read(token) is None


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t.replace("ab12", "ab13"), lambda t: "", lambda t: "ä.ö.ü"],
)
def test_a_changed_token_names_nothing(change: object) -> None:
    tokens = Tokens(new_key())
    assert tokens.read(change(tokens.sign("ab12"))) is None  # type: ignore[operator]
