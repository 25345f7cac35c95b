"""Stream a recording to a server at the speed it was spoken, and print what is heard.

audiomamba serve &
python demos/stream_file.py talk.flac
"""

import argparse
import asyncio

import soundfile

from audiomamba.streaming.client import Final, Partial, Stream, connect


async def send(file: soundfile.SoundFile, stream: Stream, pace: float) -> None:
    started = asyncio.get_running_loop().time()
    for block in file.blocks(file.samplerate // 10, dtype="int16"):
        await stream.feed(block)
        if pace:
            due = started + file.tell() / file.samplerate / pace
            await asyncio.sleep(due - asyncio.get_running_loop().time())
    await stream.finish()


async def main(path: str, url: str, pace: float) -> None:
    with soundfile.SoundFile(path) as file:
        async with (
            connect(url, sample_rate=file.samplerate, channels=file.channels) as stream,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(send(file, stream, pace))
            async for event in stream:
                match event:
                    case Partial():
                        print(
                            f"\r\033[K{event.stable}\033[2m{event.unstable}\033[0m",
                            end="",
                            flush=True,
                        )
                    case Final():
                        print(f"\r\033[K{event.start:7.2f}  {event.text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stream a recording to a server.")
    parser.add_argument("file", help="wav, flac, ogg or mp3")
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--pace", type=float, default=1.0, help="times real time; 0: at once")
    given = parser.parse_args()
    asyncio.run(main(given.file, given.url, given.pace))
