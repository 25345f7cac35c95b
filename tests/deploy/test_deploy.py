"""The files for those who run a server say what the server understands."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from audiomamba.streaming.server.config import ServerConfig, compose
from audiomamba.streaming.server.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
SETTING = re.compile(r"\b((?:server|engine|limits|resume|vosk)\.[a-z_]+)=([^\s\"',`\\;)]+)")
BY_IMPORT = {"hydra": "hydra-core", "prometheus_client": "prometheus-client"}


def settings(file: str) -> list[str]:
    """All settings in a file, each as an override."""
    found = SETTING.findall((DEPLOY / file).read_text())
    return [f"{name}={value}" for name, value in found]


@pytest.mark.parametrize("file", ["Dockerfile", "audiomamba.service", "kubernetes.yaml"])
def test_every_setting_in_a_file_is_understood(file: str) -> None:
    found = settings(file)
    assert len(found) >= 3
    config = compose(["server=public", *found])
    assert config.server.token_file == "/etc/audiomamba/tokens"


def test_the_guide_names_settings_and_limits_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text()
    config = ServerConfig()
    for group, name in re.findall(r"`(server|limits|resume)\.([a-z_]+)", text):
        assert hasattr(getattr(config, group), name), f"{group}.{name}"
    for seconds, name in re.findall(r"(\d+) s \(`limits\.([a-z_]+)`\)", text):
        assert getattr(config.limits, name) == float(seconds)
    assert f"({config.server.drain_s:.0f} s)" in text


def test_the_guide_names_every_figure_and_no_other() -> None:
    build = dict.fromkeys(("version", "model", "engine", "torch"), "")
    text = Metrics(build=build, state_bytes=1, slots=1).exposition().decode()
    exposed = {
        name if kind != "counter" else name.removesuffix("_total") + "_total"
        for name, kind in re.findall(r"^# TYPE audiomamba_(\w+) (\w+)$", text, re.MULTILINE)
    }
    table = (DEPLOY / "README.md").read_text().split("`audiomamba_`")[1].split("Worth")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = set(re.findall(r"`(\w+)", " ".join(rows)))
    assert told == exposed


def test_kubernetes_gives_the_drain_its_time() -> None:
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    config = compose(["server=public", *settings("kubernetes.yaml")]).server
    assert pod["terminationGracePeriodSeconds"] >= config.notice_s + config.drain_s + 30
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.port, "metrics": config.metrics_port}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]


def test_the_small_installation_is_part_of_the_whole_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (DEPLOY / "requirements.txt").read_text().splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    assert wanted <= set(project["dependencies"])


def test_serving_imports_nothing_beyond_the_small_installation() -> None:
    lines = (DEPLOY / "requirements.txt").read_text().splitlines()
    small = {re.split(r"[<>=]", line)[0] for line in lines if not line.startswith("#")}
    check = """
import json, sys
from audiomamba.streaming.server.config import compose
compose([])
import audiomamba.streaming.server.run
from audiomamba.models.loading import load
load("listen-en", engine="native")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    whole = {re.split(r"[<>=;\s]", line)[0] for line in project["dependencies"]}
    imported = {BY_IMPORT.get(name, name) for name in json.loads(done.stdout)}
    assert imported & whole <= small
