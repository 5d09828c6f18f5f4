"""Options of training that a base or the installed packages may not allow."""

from importlib.util import find_spec

from theta.errors import SettingsError
from theta.train.settings import TrainSettings


def check_options(settings: TrainSettings, layers: int) -> None:
    """Check what the settings' own ranges cannot tell.

    Args:
        layers: of the base.

    Raises:
        SettingsError: more layers are frozen than can be, or adapters are asked for and peft is not installed.
    """
    # Adapters need a block to stand in.
    most = layers - 1 if settings.lora_rank else layers
    if settings.frozen_layers > most:
        besides = ", and train.lora_rank needs one of them" if settings.lora_rank else ""
        raise SettingsError(
            f"train.frozen_layers is {settings.frozen_layers}, allowed is 0 to {most}: the base has {layers} "
            f"layers{besides}; lower it, or take a larger base."
        )
    if settings.lora_rank and find_spec("peft") is None:
        raise SettingsError(
            f"train.lora_rank is {settings.lora_rank}, which needs the package peft; run `pip install -e '.[lora]'`, "
            "or set it to 0."
        )
