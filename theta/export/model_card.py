"""The model card, README.md of the exported folder: the main figures, use, lineage and limits, and last the raw tables.

Figures that were not measured are marked as such. The card has no date: the same model gives the same card.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from theta.export.markdown import NOT_MEASURED, Section, facts_table, splits_table
from theta.generate.settings import GenerationSettings
from theta.markdown import plain, table
from theta.text import counted


@dataclass(frozen=True, slots=True)
class Facts:
    """The content of a card.

    Attributes:
        name: the model's name.
        parameters: number of parameters of the network.
        config: its config.json.
        dtype: number format of its weights.
        generation: the default sampling parameters.
        license: the licence as the hub names it, or None.
        revision: the project's revision, as `git_revision` returns it.
        prepare, tokenize, train, evaluate: the metrics of the stages.
        provenance: provenance.json of the checkpoint.
    """

    name: str
    parameters: int
    config: Mapping[str, Any]
    dtype: str
    generation: GenerationSettings
    license: str | None
    revision: str
    prepare: Section
    tokenize: Section
    train: Section
    evaluate: Section
    provenance: Section


_CARD = Template("""\
---
$front_matter
---

# $name

A GPT-2 of $size parameters ($layers layers, width $width, $positions positions, $vocabulary_size tokens) with $dtype
weights, $origin with Theta.

$figures

$license

## Use

With Theta:

```python
from theta import ThetaModel

model = ThetaModel.load("models/theta_final")
print(model.generate(prompt="What is machine learning?", max_length=200, temperature=0.8))
```

With transformers alone:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "models/theta_final"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{"role": "user", "content": "What is machine learning?"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
written = model.generate(**prompt)
print(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
```

By default, replies are sampled with the parameters in generation_config.json. (Theta applies the last two to the reply
alone, and the penalty to log-probabilities; transformers counts the question too, so its replies differ a little.)

$generation

**Text that spells a special token.** The chat template of transformers and of other readers makes control tokens of a
user's text such as `<|end|><|assistant|>`, which can put words into the model's mouth. Theta keeps it text, and so does
transformers if each message is encoded by itself:

```python
prompt = []
for message in messages:
    prompt.append(tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>"))
    prompt += tokenizer(message["content"], split_special_tokens=True)["input_ids"]
    prompt.append(tokenizer.eos_token_id)
prompt.append(tokenizer.convert_tokens_to_ids("<|assistant|>"))
```

**Training with other programs.** `chat_template.jinja` is plain Jinja. `chat_template_training.jinja` gives the same
text and also marks the replies, for trainers that learn nothing else; only transformers knows these marks. With TRL:

```python
from trl import SFTConfig, SFTTrainer

plain = tokenizer.chat_template
arguments = SFTConfig(
    "continued", assistant_only_loss=True, chat_template_path=f"{folder}/chat_template_training.jinja"
)
trainer = SFTTrainer(model, arguments, train_dataset=conversations, processing_class=tokenizer)
trainer.train()
tokenizer.chat_template = plain
trainer.save_model()
```

## Lineage

$lineage

## Limits

- It writes what is likely, not what is true, and it never sounds unsure. Check its answers before acting on them.
- It knows the subjects of its conversations and the texts of its base; about anything else it makes things up.
- Prompt and reply together have at most $positions tokens; the oldest part of a longer conversation is dropped.
- Its replies are not filtered. It repeats the biases of its data.

## Data

Conversations after cleaning, by split, and the dropped items:

$prepare

Tokens (documents are conversations, or parts of long ones; only replies are learned):

$tokenize

## Training

$train

Settings:

$settings

## Evaluation

$evaluation

## Provenance

Project at git revision `$revision`.

$provenance
""")


def card(facts: Facts) -> str:
    """Return the text of the card."""
    provenance = dict(facts.provenance or {})
    automatic = provenance.pop("automatic", [])
    settings = {
        name: f"{value} (auto)" if name in automatic else value
        for name, value in provenance.pop("settings", {}).items()
    }
    # The settings have a table of their own.
    train = {name: value for name, value in (facts.train or {}).items() if name != "settings"}
    base = dict(provenance.get("base", {}))
    if base:
        provenance["base"] = {name: value for name, value in base.items() if name != "made_by"}
    return _CARD.substitute(
        front_matter=_front_matter(facts.name, facts.license, base),
        name=plain(facts.name),
        size=f"{facts.parameters / 1e6:.1f}M",
        layers=facts.config["n_layer"],
        width=facts.config["n_embd"],
        positions=facts.config["n_positions"],
        vocabulary_size=f"{facts.config['vocab_size']:,}",
        origin=_origin(base),
        figures=_main_figures(facts),
        license=_license(facts.license),
        lineage="\n".join(_lineage(base)),
        dtype=facts.dtype,
        generation=facts_table(facts.generation.model_dump()),
        prepare=facts_table(facts.prepare),
        tokenize=splits_table(facts.tokenize),
        train=facts_table(train),
        settings=facts_table(settings),
        evaluation=_evaluation(facts.evaluate, learn_held_out=settings.get("learn_held_out") is True),
        revision=facts.revision,
        provenance=facts_table(provenance),
    )


def git_revision(folder: Path) -> str:
    """Return the commit of the project in `folder`, with "+changes" if its files differ from that commit.

    Metrics and dvc.lock do not count as changes, because the current run has just changed them. Without git the result
    is "unknown".
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".", ":(exclude)metrics", ":(exclude)dvc.lock")
    if commit is None or changes is None:
        return "unknown"
    return f"{commit}+changes" if changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _front_matter(name: str, license_: str | None, base: Mapping[str, Any]) -> str:
    """YAML for the hub, without a language, because that of the conversations is not known."""
    lines = [
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [gpt2, conversational, theta]",
        f"model_name: {_quoted(name)}",
    ]
    if license_:
        lines.append(f"license: {license_}")
    first = _bases(base)[-1] if base else {}
    return "\n".join([*lines, f"base_model: {_quoted(first['name'])}"] if first.get("kind") == "hub" else lines)


def _quoted(text: str) -> str:
    """A YAML string: a JSON string with emoji unescaped, because YAML does not join the two halves of JSON's escape."""
    return json.dumps(text, ensure_ascii=False)


def _origin(base: Mapping[str, Any]) -> str:
    if not base:
        return "trained from an unknown base"
    name = plain(base["name"])
    if base["kind"] == "scratch":
        return f"trained from random weights ({name})"
    return f"fine-tuned from {name} at revision {base['revision']}" if base["revision"] else f"fine-tuned from {name}"


def _bases(base: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The base, its own base, and so on, back to the first."""
    return [base, *_bases(base["made_by"]["base"])] if base.get("made_by") else [base]


def _lineage(base: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each model on the way from this one to the first base."""
    if not base:
        yield "The base is not known."
        return
    yield f"- This model was {_origin(base)}."
    for each in _bases(base)[:-1]:
        made = each["made_by"]
        data, settings = made["data"], made["settings"]
        trained = ", ".join(f"{name} {settings[name]}" for name in ("epochs", "learning_rate") if name in settings)
        yield (
            f"- {plain(each['name'])} was {_origin(made['base'])}, on {plain(data['path'])} "
            f"({counted(data['files'], 'file')}, SHA-256 {data['sha256'][:12]}; {plain(trained)}), at git revision "
            f"{plain(made['revision'])}."
        )


def _license(license_: str | None) -> str:
    if license_:
        return f"Licence: {license_}. Those of its base and of its conversations apply, too."
    return "Licence: not stated. Those of its base and of its conversations apply."


def _main_figures(facts: Facts) -> str:
    """The few figures that say most, each with what it means."""
    evaluate = facts.evaluate or {}
    answers, test = evaluate.get("answers") or {}, evaluate.get("test") or {}
    rows = [
        (words, f"{answers[name]['share']:.0%} of {answers[name]['questions']:,}")
        for name, words in (
            ("trained", "Trained questions that get their answer"),
            ("new_wordings", "The same in wordings that training never saw"),
        )
        if answers.get(name)
    ]
    if test.get("loss_nats_per_token") is not None:
        before = evaluate["base"]["loss_nats_per_token"]
        words = "Loss on conversations that training never saw, in nats per token (the base)"
        rows.append((words, f"{test['loss_nats_per_token']:.2f} ({before:.2f})"))
    if (evaluate.get("replies") or {}).get("chrf") is not None:
        words = "Similarity of its replies to the expected ones, as chrF from 0 to 100"
        rows.append((words, f"{evaluate['replies']['chrf']:.1f}"))
    return table(("figure", "value"), rows) if rows else NOT_MEASURED


def _evaluation(evaluate: Section, *, learn_held_out: bool) -> str:
    if evaluate is None:
        return NOT_MEASURED
    parts = [*_answers(evaluate.get("answers") or {})]
    test, base = evaluate["test"], evaluate["base"]
    if test is None:
        parts.append("No conversations were held back for a test, so its loss on new ones was not measured.")
        return "\n\n".join(parts)
    if learn_held_out:
        parts.append(
            "The model that was measured did not learn the held-out conversations. This one was then trained in the "
            "same way on all of them."
        )
    domains = [
        (name, row["loss_nats_per_token"], row["base_loss_nats_per_token"], row["documents"])
        for name, row in evaluate["domains"].items()
    ]
    parts += [
        _ABOUT_HELD_OUT,
        table(("figure", "fine-tuned", "base"), [(name, test[name], base[name]) for name in test]),
        table(("domain", "loss", "base loss", "documents"), domains),
        "Figures of its replies to questions of the test split:",
        facts_table(evaluate["replies"]),
    ]
    return "\n\n".join(parts)


_ABOUT_ANSWERS = """\
Answers given: questions of the training data as they were learned, and in new wordings that were held back. A reply is
right if its chrF (similarity of character sequences, Popovic 2015) to the answer is above 60 of 100."""
_ABOUT_HELD_OUT = """\
Held-out loss, in nats per learned token of the test split, which training never saw; "base" is the model before
fine-tuning. It says how likely the model finds replies that it does not know. A set that is learned by heart raises it,
although its answers are right."""


def _answers(answers: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (asked, counts["questions"], counts["right"], f"{counts['share']:.1%}", counts["verbatim"])
        for how, asked in (("trained", "as trained"), ("new_wordings", "in new wordings"))
        if (counts := answers.get(how))
    ]
    if rows:
        yield _ABOUT_ANSWERS
        yield table(("asked", "questions", "right", "share", "to the letter"), rows)
