"""transformers: tokenizer, model, and batches of unequal prompts. Any version runs this."""

import sys
import warnings

import torch
import transformers
from answering import Answer, Messages, encode, greedy, main

folder = sys.argv[1]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.inference_mode()
def answer(chat: Messages, tokens: int, top: int) -> Answer:
    """Answer alone, token by token, and in a batch with a longer prompt, by `generate`."""
    prompt = encode(tokenizer, chat)
    found = greedy(prompt, model.config.eos_token_id, tokens, top, lambda ids: model(torch.tensor([ids])).logits[0, -1])
    longer = [*chat[:-1], {"role": "user", "content": "Please answer shortly. " + chat[-1]["content"]}]
    batch = tokenizer.apply_chat_template(
        [chat, longer], add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    written = model.generate(
        **batch, do_sample=False, temperature=None, top_p=None, top_k=None, repetition_penalty=1.0,
        no_repeat_ngram_size=0, max_new_tokens=tokens,
    )  # fmt: skip
    reply = [token for token in written[0, batch["input_ids"].shape[1] :].tolist() if token != tokenizer.pad_token_id]
    if reply != found["reply"]:
        raise SystemExit(f"In a batch, the reply is {reply}, alone {found['reply']}.")
    return found


warnings.simplefilter("error")
main(transformers.__version__, answer)
