"""The figures: their names, their sums, and labels that cannot grow."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from audiomamba.streaming.protocol import AudioSettings
from audiomamba.streaming.server.account import Account
from audiomamba.streaming.server.metrics import Metrics


@dataclass
class Session:
    received: int = 0
    decoded: int = 0
    audio: AudioSettings = field(default_factory=AudioSettings)


@pytest.fixture
def metrics() -> Metrics:
    build = {"version": "1", "model": "m", "engine": "native", "torch": ""}
    return Metrics(build=build, state_bytes=1000, slots=4)


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (
            sample.name.removeprefix("audiomamba_"),
            tuple(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_names_are_those_of_the_protocol_document(metrics: Metrics) -> None:
    families = text_string_to_metric_families(metrics.exposition().decode())
    names = {family.name.removeprefix("audiomamba_") for family in families}
    assert names >= {
        "streams_active", "streams", "streams_rejected", "audio_received_seconds",
        "audio_decoded_seconds", "audio_dropped_seconds", "stream_lag_seconds",
        "first_partial_seconds", "final_latency_seconds", "step_seconds", "batch_size",
        "queue_seconds", "state_bytes", "snapshots", "snapshot_seconds", "resumes", "ws_close",
        "generated_audio_seconds", "generation_first_audio_seconds",
        "http_request_duration_seconds", "device_memory_bytes", "build_info",
        "process_resident_memory_bytes", "process_cpu_seconds",
    }  # fmt: skip


def test_audio_is_summed_over_live_and_ended_streams(metrics: Metrics) -> None:
    first, second = Account("a", "v1", metrics), Account("b", "vosk", metrics)
    one, other = Session(), Session()
    first.opened(one, 0.0)
    second.opened(other, 0.0)
    one.received, one.decoded = 32_000, 16_000
    other.received, other.decoded = 16_000, 16_000
    assert scraped(metrics)["streams_active", ("v1", "transcribe")] == 1
    second.ended(1000, "", 1.0)
    values = scraped(metrics)
    assert values["streams_active", ("vosk", "transcribe")] == 0
    assert values["streams_total", ("vosk", "finished")] == 1
    assert values["audio_received_seconds_total", ()] == 3.0
    assert values["audio_decoded_seconds_total", ()] == 2.0
    metrics.first_sound(0.1)
    first.generated_s = 2.5
    assert scraped(metrics)["generated_audio_seconds_total", ()] == 2.5
    metrics.sample_lag()
    assert scraped(metrics)["stream_lag_seconds_sum", ()] == 1.0


def test_the_engine_s_phases_have_their_histograms(metrics: Metrics) -> None:
    for phase in ("queue", "features", "model", "text"):
        metrics.phase(phase, 0.003, 2)
    values = scraped(metrics)
    assert values["step_seconds_count", ("model",)] == 1
    assert values["step_seconds_count", ("text",)] == 1
    assert values["queue_seconds_count", ()] == 1
    assert values["batch_size_sum", ()] == 2


def test_what_the_server_refuses_and_closes_is_counted(metrics: Metrics) -> None:
    metrics.rejected("full")
    metrics.closed(4413)
    metrics.closed(None)
    metrics.request("/healthz", "GET", 200, 0.01)
    metrics.snapshot("stored", 0.001)
    metrics.resume("restored")
    values = scraped(metrics)
    assert values["streams_rejected_total", ("full",)] == 1
    assert values["ws_close_total", ("4413",)] == values["ws_close_total", ("none",)] == 1
    assert values["http_request_duration_seconds_count", ("GET", "/healthz", "200")] == 1
    assert values["snapshots_total", ("stored",)] == values["resumes_total", ("restored",)] == 1


def test_memory_is_that_of_the_process(metrics: Metrics) -> None:
    assert scraped(metrics)["device_memory_bytes", ("resident",)] > 1e6


def test_the_server_s_modules_import_no_torch() -> None:
    check = "import sys, audiomamba.streaming.server.run; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
