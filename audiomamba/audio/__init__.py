"""Audio front end: sample formats, resampling, log-mel features, each a function of a state.

numpy alone; ``audiomamba.audio.files`` (soundfile) and ``audiomamba.audio.mel_torch`` (training)
are imported by those who use them.
"""

from audiomamba.audio.frontend import ChannelMode, FrontEnd
from audiomamba.audio.mel import MelConfig, StreamingMel, mel_filterbank
from audiomamba.audio.pcm import Encoding, PcmDecoder, decode, encode
from audiomamba.audio.resample import Resampler

__all__ = [
    "ChannelMode",
    "Encoding",
    "FrontEnd",
    "MelConfig",
    "PcmDecoder",
    "Resampler",
    "StreamingMel",
    "decode",
    "encode",
    "mel_filterbank",
]
