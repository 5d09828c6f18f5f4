"""onnxruntime, one token at a time with the cache of the graph."""

import sys

import numpy as np
import onnxruntime
from answering import Answer, Messages, encode, greedy, main
from transformers import AutoConfig, AutoTokenizer

folder = sys.argv[1]
tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_inputs() if each.name.startswith("past_key_values")]
EMPTY = np.zeros((1, config.n_head, 0, config.n_embd // config.n_head), dtype=np.float32)


def answer(chat: Messages, tokens: int, top: int) -> Answer:
    """Feed the prompt to an empty cache, then each token by itself."""
    read, cache = 0, [EMPTY for _ in names]

    def logits_after(ids: list[int]) -> np.ndarray:
        nonlocal read, cache
        feed = {
            "input_ids": np.array([ids[read:]]),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "position_ids": np.arange(read, len(ids))[None],
        }
        logits, *cache = session.run(None, {**feed, **dict(zip(names, cache, strict=True))})
        read = len(ids)
        return logits[0, -1]

    return greedy(encode(tokenizer, chat), tokenizer.eos_token_id, tokens, top, logits_after)


main(onnxruntime.__version__, answer)
