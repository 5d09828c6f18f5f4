"""peft: a LoRA on the model, a few steps, its adapter saved and opened again, and merged."""

import json
import sys
import tempfile

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = sys.argv[1]
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer(["DNS turns names into addresses.<|end|>"], return_tensors="pt")
settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
for _ in range(8):
    loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
with tempfile.TemporaryDirectory() as saved, torch.inference_mode():
    wanted = model.eval()(**batch).logits
    model.save_pretrained(saved)
    opened = peft.AutoPeftModelForCausalLM.from_pretrained(saved).eval()
    merged = opened.merge_and_unload()(**batch).logits
found = {"version": peft.__version__, "losses": losses, "difference": (merged - wanted).abs().max().item()}
print("RESULT " + json.dumps(found))
