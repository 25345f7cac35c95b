"""What a run takes over from the checkpoint it goes on from, beside the weights.

Some of a checkpoint is not trained but fitted to it afterwards: its language model, how late its
words are, how sure they are. A run that goes on from it would lose all that with the first export.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from audiomamba.models.checkpoint_files import read_config

__all__ = ["Inheritance"]

MEASURED = {"start_delay_s": 0.0, "emission_delay_s": 0.0, "confidence_scale": 1.0}
"""Of ``model``, with the values that say nothing; what the run says itself goes first."""
TOKENIZER = "tokenizer.model"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Parts of ``config.json``, and files by name; nothing of either for a fresh run.

    Attributes:
        description: All of ``config.json``.
        files: Contents, so that an export can be written when the checkpoint is gone.
    """

    description: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path | None) -> Self:
        """Of a checkpoint, or of the export beside a run's ``last/``.

        Raises:
            ModelError: there is a checkpoint, and its config.json cannot be read.
            OSError: its language models cannot.
        """
        beside = [folder, folder.parent / "export"] if folder is not None else []
        for found in beside:
            if (found / TOKENIZER).is_file() and (found / "config.json").is_file():
                description = read_config(found)
                names = [TOKENIZER]
                if (language_model := description.get("language_model")) is not None:
                    if ngrams := language_model.get("file"):
                        names.append(ngrams)
                    if neural := language_model.get("neural"):
                        names += [f"{neural}/{file.name}" for file in (found / neural).iterdir()]
                return cls(description, {name: (found / name).read_bytes() for name in names})
        return cls()

    def onto(
        self, description: dict[str, Any], files: dict[str, Path]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """``config.json`` and files of an export: the run's own, and what it has none of.

        A language model is over pieces: it does not go with another tokenizer.
        """
        own = {name: path.read_bytes() for name, path in files.items()}
        taken = {
            k: v for k, v in self.description.items() if k not in ("kind", "model", "training")
        }
        kept = dict(self.files)
        if own.get(TOKENIZER, self.files.get(TOKENIZER)) != self.files.get(TOKENIZER):
            taken.pop("language_model", None)
            kept = {}
        model = dict(description.get("model", {}))
        before = self.description.get("model", {})
        for name, says_nothing in MEASURED.items():
            if name in before and model.get(name) == says_nothing:
                model[name] = before[name]
        if model:
            description = {**description, "model": model}
        return {**taken, **description}, {**kept, **own}
