"""Which weights are learned: all, those above frozen layers, or adapters beside them."""

from transformers import GPT2LMHeadModel

from theta.model.adapters import add_adapters, has_adapters, merge_adapters
from theta.model.special_rows import learn_special_rows, restore_embedding
from theta.train.options import check_options
from theta.train.settings import TrainSettings


def narrow(model: GPT2LMHeadModel, settings: TrainSettings, vocabulary_size: int) -> None:
    """Leave only those weights to learn that the settings name. The model must not move or change type afterwards.

    Raises:
        SettingsError: the base, or what is installed, does not allow it.
    """
    check_options(settings, len(model.transformer.h))
    if settings.lora_rank:
        add_adapters(model, settings.lora_rank, settings.frozen_layers, settings.seed)
    elif settings.frozen_layers:
        for part in (model.transformer.wpe, *model.transformer.h[: settings.frozen_layers]):
            part.requires_grad_(False)
    else:
        return
    learn_special_rows(model, vocabulary_size)


def widen(model: GPT2LMHeadModel) -> None:
    """Undo `narrow`: a plain GPT-2 with what was learned."""
    restore_embedding(model)
    if has_adapters(model):
        merge_adapters(model)
    model.requires_grad_(True)
