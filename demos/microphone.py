"""Speak, and read along: the model runs in this process, no server is needed.

pip install 'audiomamba[mic]'
python demos/microphone.py
"""

import queue

import numpy as np
import sounddevice
from numpy.typing import NDArray

import audiomamba as am


def main(model: str = "listen-en") -> None:
    rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
    heard: queue.Queue[NDArray[np.float32]] = queue.Queue()
    stream = am.load(model).stream(sample_rate=rate)

    def keep(block: NDArray[np.float32], *_: object) -> None:
        heard.put(block[:, 0].copy())  # the device reuses its buffer

    with sounddevice.InputStream(
        samplerate=rate, channels=1, dtype="float32", blocksize=rate // 20, callback=keep
    ):
        print("listening; Ctrl-C ends")
        try:
            while True:
                show(stream.feed(heard.get()))
        except KeyboardInterrupt:
            show(stream.finish())


def show(events: list[am.Event]) -> None:
    for event in events:
        match event:
            case am.Partial():
                print(f"\r\033[K{event.stable}\033[2m{event.unstable}\033[0m", end="", flush=True)
            case am.Final():
                print(f"\r\033[K{event.text}")


if __name__ == "__main__":
    main()
