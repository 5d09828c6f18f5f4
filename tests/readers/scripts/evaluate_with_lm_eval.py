"""lm-eval's `hf` model on a task of this machine, with the chat template; prints the log-likelihood of each choice.

python evaluate_with_lm_eval.py FOLDER < [{"question": text, "choices": [text, ...], "right": index}, ...]
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

TASK = """
task: theta_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: right
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""

with tempfile.TemporaryDirectory() as root:
    tasks = Path(root, "tasks")
    tasks.mkdir()
    Path(root, "test.json").write_text(sys.stdin.read(), encoding="utf-8")
    (tasks / "theta_choice.yaml").write_text(TASK.replace("FILE", f"{root}/test.json"), encoding="utf-8")
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": sys.argv[1], "dtype": "float32"},
        tasks=["theta_choice"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=2,
        apply_chat_template=True,
        bootstrap_iters=0,
    )
samples = sorted(found["samples"]["theta_choice"], key=lambda sample: sample["doc_id"])
scores = [[float(each[0]) for each in sample["filtered_resps"]] for sample in samples]
print("RESULT " + json.dumps({"version": version("lm_eval"), "scores": scores}))
