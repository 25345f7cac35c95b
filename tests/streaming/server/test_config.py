"""Settings: what is refused, and what follows from others."""

import subprocess
import sys

import pytest

from audiomamba.errors import ConfigError
from audiomamba.streaming.server.config import compose
from tests.cli.test_main import audiomamba


def test_overrides_of_every_group_arrive() -> None:
    config = compose(
        ["server.port=0", "engine.slots=3", "vosk.enabled=false", "limits.unread_s=1.5"]
    )
    assert (config.server.port, config.engine.slots) == (0, 3)
    assert (config.vosk.enabled, config.limits.unread_s) == (False, 1.5)


def test_balancers_get_time_to_notice_beyond_loopback_only() -> None:
    assert compose([]).server.notice_s == 0.0
    assert compose(["server=public", "server.tokens=[a]"]).server.notice_s == 5.0
    assert compose(["server.drain_notice_s=1"]).server.notice_s == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        "server.port=70000",
        "server.metrics_port=70000",
        "server.tls_cert=cert.pem",
        "server.drain_notice_s=-1",
        "server.drain_s=0",
        "server.log_format=xml",
        "server.host=0.0.0.0",
        "engine.slots=0",
        "engine.block=99",
        "engine.buffer_s=0",
        "vosk.sample_rate=1",
        "limits.idle_s=1",
        "limits.colour=red",
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong: str) -> None:
    name = wrong.split("=")[0].split(".")[1]
    with pytest.raises(ConfigError, match=name):
        compose([wrong])


def test_settings_composed_apart_are_the_same_and_leave_hydra_out() -> None:
    program = (
        "import sys; from audiomamba.streaming.server.config import compose_apart;"
        "config = compose_apart(['engine.slots=3', 'server.tokens=[a,b]']);"
        "print('hydra' in sys.modules, config)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"False {compose(['engine.slots=3', 'server.tokens=[a,b]'])}\n"


def test_what_is_wrong_is_said_by_the_process_that_asked() -> None:
    with pytest.raises(ConfigError) as here:
        compose(["engine.slotss=3"])
    done = audiomamba("serve", "engine.slotss=3")
    assert (done.returncode, done.stderr) == (2, f"audiomamba serve: {here.value}\n")
