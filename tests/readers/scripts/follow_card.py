"""Run the code of the model card, as a reader of it would: transformers, then text of strangers, then TRL.

python follow_card.py FOLDER < {"stranger": messages, "conversations": [messages, ...]}
"""

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

from datasets import Dataset

folder = sys.argv[1]
request = json.load(sys.stdin)
card = (Path(folder) / "README.md").read_text(encoding="utf-8").replace("models/theta_final", folder)
_, ask, encode, train = re.findall(r"```python\n(.*?)```", card, re.DOTALL)

names: dict[str, object] = {}
exec(ask, names)
names["messages"] = request["stranger"]
exec(encode, names)
stranger = names["prompt"]
rows = [{"messages": messages} for messages in request["conversations"]]
names["conversations"] = Dataset.from_list(rows)
on_cpu = train.replace("assistant_only_loss=True", "assistant_only_loss=True, use_cpu=True")  # TRL asks for it
exec(on_cpu, names)
trainer = names["trainer"]
(batch,) = trainer.get_train_dataloader()  # type: ignore[attr-defined]
kept = batch["attention_mask"].bool()
examples = [
    {"ids": ids[mask].tolist(), "learned": (labels[mask] != -100).tolist()}
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], kept, strict=True)
]
steps = trainer.state.global_step  # type: ignore[attr-defined]
found = {"version": version("trl"), "stranger": stranger, "examples": examples, "steps": steps}
print("RESULT " + json.dumps(found))
