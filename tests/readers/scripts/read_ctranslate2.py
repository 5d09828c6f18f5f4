"""CTranslate2, with the tokenizer beside its weights."""

import sys

import ctranslate2
import numpy as np
from answering import Answer, Messages, encode, greedy, main
from transformers import AutoTokenizer

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
generator = ctranslate2.Generator(folder, device="cpu", compute_type="float32")


def logits_after(ids: list[int]) -> np.ndarray:
    """Compute the logits of the whole sequence, and return the last, [vocabulary]."""
    batch, lengths = (
        ctranslate2.StorageView.from_array(np.array(each, dtype=np.int32)) for each in ([ids], [len(ids)])
    )
    return np.array(generator.forward_batch(batch, lengths))[0, -1]


def answer(chat: Messages, tokens: int, top: int) -> Answer:
    """Compare its own greedy search with the likeliest token of each step."""
    found = greedy(encode(tokenizer, chat), tokenizer.eos_token_id, tokens, top, logits_after)
    words = tokenizer.convert_ids_to_tokens(found["prompt"])
    (written,) = generator.generate_batch(
        [words], max_length=tokens, beam_size=1, sampling_topk=1, include_prompt_in_result=False,
        end_token=tokenizer.eos_token, return_end_token=True,
    )  # fmt: skip
    if written.sequences_ids[0] != found["reply"]:
        raise SystemExit(f"generate_batch writes {written.sequences_ids[0]}, step by step it is {found['reply']}.")
    return found


main(ctranslate2.__version__, answer)
