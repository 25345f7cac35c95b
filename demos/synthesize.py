"""Speak digits, sample by sample, and draw what was said.

python demos/synthesize.py "three one four" -o pi.wav       # without words, 4 s of any
"""

import argparse
import importlib

import numpy as np
import soundfile

import audiomamba as am

BARS, SHADES, COLUMNS, ROWS = " ▁▂▃▄▅▆▇█", " ·░▒▓█", 72, 12


def spoken(sound: np.ndarray, pause: int) -> np.ndarray:
    """A word without the silence after it, and a pause."""
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    return np.concatenate([sound[: loud[-1] + 1 if len(loud) else 0], np.zeros(pause, "f4")])


def scaled(values: np.ndarray, signs: str) -> list[str]:
    """A sign for each value; the largest gets the last one."""
    places = np.ceil(values / max(values.max(), 1e-9) * (len(signs) - 1))
    return [signs[i] for i in places.astype(int)]


def picture(sound: np.ndarray, rate: int) -> str:
    """The loudness over time, and below it the spectrum, high tones at the top."""
    blocks = np.array_split(sound, COLUMNS)
    wave = "".join(scaled(np.array([np.abs(b).max(initial=0) for b in blocks]), BARS))
    spectrum = np.abs([np.fft.rfft(b * np.hanning(len(b)), len(blocks[0])) for b in blocks])
    bands = np.stack([part.max(1) for part in np.array_split(spectrum, ROWS, axis=1)])
    db = np.maximum(20 * np.log10(bands / max(bands.max(), 1e-9) + 1e-9) + 60, 0)
    signs = scaled(db.reshape(-1), SHADES)
    lines = ["".join(signs[i : i + COLUMNS]) for i in range(0, len(signs), COLUMNS)]
    return "\n".join([wave, *reversed(lines), f"0 s{len(sound) / rate:>{COLUMNS - 5}.1f} s"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak and draw what was said.")
    parser.add_argument("words", nargs="?", help='labels: "three one four"; without, 4 s of any')
    parser.add_argument("-o", "--out", help="wav or flac; without it the sound is played")
    parser.add_argument("--model", default="wave-digits")
    parser.add_argument("--speaker")
    given = parser.parse_args()
    try:
        model = am.load(given.model)
        rate = model.sample_rate
        who = given.speaker or next(iter(model.config.speakers), None)
        labels = [given.words] if model.config.label_states > 1 else (given.words or "").split()
        made = model.start(labels=labels or [None], speakers=[who])
        sounds = made.next(made.planned[0] or (1 if given.words else 4) * rate)
        sound = np.concatenate([spoken(word, rate // 10) for word in sounds])
        print(picture(sound, rate))
        if given.out:
            soundfile.write(given.out, sound, rate)
        else:
            importlib.import_module("sounddevice").play(sound, rate, blocking=True)
    except (am.Error, OSError, ImportError, TypeError, soundfile.SoundFileError) as error:
        parser.exit(1, f"{error}\n")
