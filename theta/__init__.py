"""Theta fine-tunes GPT-2-class conversational models, reproducibly.

from theta import ThetaModel
model = ThetaModel.load("models/theta_final")
print(model.generate("What is machine learning?", max_length=200, temperature=0.8))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theta.generate.assistant import ThetaModel

    __version__: str

__all__ = ["ThetaModel", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import theta` must not cost the seconds that torch takes.
    if name == "ThetaModel":
        return import_module("theta.generate.assistant").ThetaModel
    if name == "__version__":
        return import_module("importlib.metadata").version("theta-finetune")
    raise AttributeError(f"module 'theta' has no attribute {name!r}")
