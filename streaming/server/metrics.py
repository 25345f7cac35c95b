"""What ``/metrics`` says, in Prometheus' text format.

Counters of audio are summed from the streams' own counts when somebody scrapes; the audio path
itself only counts samples, as it has to anyway. Labels come from short lists written here: never a
stream's name, a text or a path.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from audiomamba.streaming.server.account import Account

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
STEP_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
REQUEST_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
TASKS = ("transcribe", "generate", "both")


class Metrics:
    """All instruments of one server process, in a registry of their own.

    Args:
        build: Labels of ``build_info``: versions and the model's name.
        state_bytes: Of one stream on the engine.
        slots: Streams the process takes at once.
    """

    def __init__(self, *, build: Mapping[str, str], state_bytes: int, slots: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice as many lines, and nobody reads the second half
        self.registry = CollectorRegistry()
        self._live: set[Account] = set()
        self._ended_s = {"received": 0.0, "decoded": 0.0, "dropped": 0.0, "generated": 0.0}
        self._make_streams()
        self._make_engine()
        self._gauge("build_info", "Versions and model.", *build).labels(*build.values()).set(1)
        self._gauge("state_bytes", "Bytes of one stream's state.").set(state_bytes)
        self._gauge("slots", "Streams the process takes at once.").set(slots)
        self.registry.register(_Scraped(self))
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """The text for a scraper."""
        return generate_latest(self.registry)

    @property
    def live(self) -> list[Account]:
        """Streams that are open now."""
        return list(self._live)

    def seconds(self, kind: str) -> float:
        """Seconds ``received``, ``decoded``, ``dropped`` or ``generated`` since the start."""
        live = sum(float(getattr(account, f"{kind}_s")) for account in self.live)
        return self._ended_s[kind] + live

    # Told by accounts, on the event loop.

    def stream_opened(self, account: Account) -> None:
        self._live.add(account)

    def stream_ended(self, account: Account, outcome: str) -> None:
        self._live.discard(account)
        for kind in self._ended_s:
            self._ended_s[kind] += float(getattr(account, f"{kind}_s"))
        self._streams.labels(account.dialect, outcome).inc()

    def first_partial(self, seconds: float) -> None:
        self._first_partial.observe(seconds)

    def final(self, seconds: float) -> None:
        self._final.observe(seconds)

    def first_sound(self, seconds: float) -> None:
        self._first_sound.observe(seconds)

    # Told by the server.

    def rejected(self, reason: str) -> None:
        """A connection was refused before it had a stream."""
        self._rejected.labels(reason).inc()

    def closed(self, code: int | None) -> None:
        """A WebSocket is over; None where the client left without our close."""
        self._closed.labels("none" if code is None else str(code)).inc()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP request was answered; ``route`` is a pattern of the table, not a path."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    def sample_lag(self) -> None:
        """Note the lag of every live stream; called once a second."""
        for account in self.live:
            self._lag.observe(account.lag_s)

    # Told by the engine, on its thread.

    def phase(self, phase: str, seconds: float, batch: int) -> None:
        """See ``Engine.on_phase``."""
        if phase == "queue":
            self._queue.observe(seconds)
            return
        self._steps.labels(phase).observe(seconds)
        if phase == "model":
            self._batch.observe(batch)

    # Told by the store of snapshots.

    def snapshot(self, result: str, seconds: float) -> None:
        """A snapshot was written: ``stored`` or ``failed``."""
        self._snapshots.labels(result).inc()
        self._snapshot_seconds.observe(seconds)

    def resume(self, result: str) -> None:
        """A client came back: ``live``, ``restored`` or ``unavailable``."""
        self._resumes.labels(result).inc()

    def _make_streams(self) -> None:
        self._streams = self._counter("streams", "Streams that ended.", "dialect", "outcome")
        self._rejected = self._counter("streams_rejected", "Connections refused.", "reason")
        self._closed = self._counter("ws_close", "WebSockets closed.", "code")
        self._lag = self._histogram(
            "stream_lag_seconds", "Audio that waits in a stream, sampled once a second.", LAG_S
        )
        self._first_partial = self._histogram(
            "first_partial_seconds", "Arrival of an utterance's start to its first partial.", LAG_S
        )
        self._final = self._histogram(
            "final_latency_seconds", "Arrival of an utterance's end to its final.", LAG_S
        )
        self._first_sound = self._histogram(
            "generation_first_audio_seconds", "Start of a generation to its first sound.", LAG_S
        )
        self._snapshots = self._counter("snapshots", "Snapshots of streams.", "result")
        self._snapshot_seconds = self._histogram("snapshot_seconds", "Time to store one.", STEP_S)
        self._resumes = self._counter("resumes", "Streams that were asked to go on.", "result")
        self._requests = self._histogram(
            "http_request_duration_seconds", "HTTP requests.", REQUEST_S,
            "route", "method", "status",
        )  # fmt: skip

    def _make_engine(self) -> None:
        self._steps = self._histogram("step_seconds", "A turn of the engine.", STEP_S, "phase")
        self._batch = self._histogram("batch_size", "Streams in one step.", BATCH)
        self._queue = self._histogram(
            "queue_seconds", "The oldest ready stream's wait for its turn.", STEP_S
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"audiomamba_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"audiomamba_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"audiomamba_{name}", text, labels, registry=self.registry, buckets=buckets
        )


class _Scraped:
    """What is only computed when it is asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        active = GaugeMetricFamily(
            "audiomamba_streams_active", "Streams that are open.", labels=["task", "dialect"]
        )
        live = [(account.task, account.dialect) for account in self._metrics.live]
        for pair in (*((task, "v1") for task in TASKS), ("transcribe", "vosk")):
            active.add_metric(pair, live.count(pair))
        yield active
        for kind in ("received", "decoded", "dropped"):
            yield CounterMetricFamily(
                f"audiomamba_audio_{kind}_seconds",
                f"Seconds of audio {kind}.",
                value=self._metrics.seconds(kind),
            )
        yield CounterMetricFamily(
            "audiomamba_generated_audio_seconds",
            "Seconds of sound made.",
            value=self._metrics.seconds("generated"),
        )
        memory = GaugeMetricFamily(
            "audiomamba_device_memory_bytes", "Memory in use.", labels=["kind"]
        )
        for kind, size in _memory().items():
            memory.add_metric([kind], size)
        yield memory


def _memory() -> dict[str, int]:
    """Bytes of the process, and of its GPU where torch runs on one."""
    pages = Path("/proc/self/statm")
    found = {}
    if pages.exists():
        import resource

        found["resident"] = int(pages.read_text().split()[1]) * resource.getpagesize()
    torch = sys.modules.get("torch")  # never imported for this
    if torch is not None and torch.cuda.is_initialized():
        found["gpu_allocated"] = int(torch.cuda.memory_allocated())
        found["gpu_reserved"] = int(torch.cuda.memory_reserved())
    return found
