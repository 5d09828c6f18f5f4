"""A minimal project after training: a tiny checkpoint, a few conversations, their tokens and curves."""

import json
from pathlib import Path

from theta.bases import descriptors
from theta.conversation.messages import Conversation, Message
from theta.files import write_json, write_json_lines, write_text
from theta.model import network
from theta.tokens import store
from theta.tokens.encode import ConversationEncoder
from theta.tokens.vocabulary import Vocabulary

GENERATION = {
    "max_length": 12,
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 50,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
}
PARAMS = {
    "generation": GENERATION,
    "evaluate": {"answers": 10, "replies": 4, "prompts_per_batch": 3, "seed": 7},
    "machine": {
        "device": "cpu",
        "devices": 1,
        "threads": 1,
        "memory": "auto",
        "precision": "auto",
        "compile": "auto",
        "tokens_per_microbatch": 512,
        "steps_per_checkpoint": 100,
    },
    "export": {"dtype": "float32", "model_name": "tiny | `one`", "license": "mit", "formats": []},
}


def conversation(domain: str, *texts: str) -> Conversation:
    """Texts of user and assistant in turn."""
    messages = tuple(Message(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))
    return Conversation(messages, domain, f"{domain}.json#{len(texts)}")


CONVERSATIONS = (
    conversation("linux", "How do I list files?", "Use `ls`."),
    conversation("linux", "And hidden ones?", "Use `ls -a`; it shows names that begin with a dot, too."),
    conversation("smalltalk", "Hi", "Hello! How can I help?", "Who are you?", "An assistant | of few words."),
    conversation("networking", "What is DNS?", "DNS turns names into addresses.\n\n```sh\ndig example.org\n```"),
    conversation("linux", "What is a 文件?", "A file. Ein Gerät ist auch eine Datei."),
)


def save_tokens(path: Path, conversations: tuple[Conversation, ...], vocabulary: Vocabulary) -> store.Store:
    """Encode conversations into an Arrow file, and open it."""
    store.write_batches(path, [ConversationEncoder(vocabulary).encode(conversations, 512).documents])
    return store.Store(path)


def save_checkpoint(folder: Path, vocabulary: Vocabulary) -> None:
    """Write a checkpoint as the train stage does: 2 layers, width 32, random weights."""
    model = network.new(2, 2, 32, seed=0)
    network.resize(model, vocabulary.size)
    network.trim(model, vocabulary.size)
    network.save(model, folder)
    settings, base = {"learning_rate": 5e-5, "epochs": 3}, descriptors.resolve("scratch:nano", None, 0, ())[0]
    versions = {"torch": "2.13.0", "transformers": "5.23.0"}
    compute = {"device": "cpu", "precision": "float32", "threads": 2}
    provenance = {"settings": settings, "base": base, "compute": compute, "versions": versions}
    write_json(folder / "provenance.json", provenance)


def save_project(root: Path, vocabulary: Vocabulary) -> None:
    """Write everything that the stages evaluate and export read, where they read it."""
    write_text(root / "params.yaml", json.dumps(PARAMS))
    save_checkpoint(root / "models/checkpoint", vocabulary)
    write_json(root / "models/base/weights.json", descriptors.resolve("scratch:nano", None, 0, ())[0])
    vocabulary.save(root / "Datasets/tokens/tokenizer", 1024)
    save_tokens(root / "Datasets/tokens/test.arrow", CONVERSATIONS, vocabulary)
    for name, kept in (("test", CONVERSATIONS), ("train", CONVERSATIONS), ("new_wordings", CONVERSATIONS[:1])):
        write_json_lines(root / f"Datasets/prepared/{name}.jsonl", (each.to_json() for each in kept))
    for split in ("train", "validation"):
        write_text(root / f"metrics/curves/plots/metrics/{split}/loss.tsv", "step\tloss\n1\t10.5\n2\t9.25\n")
    write_text(root / "metrics/plots/lengths.csv", "tokens,documents\n32,3\n64,2\n")
    counts = {"documents": 5, "tokens": 120}
    write_json(root / "metrics/tokenize.json", {"test": counts, "train": {"documents": 50, "tokens": 1234}})
    write_json(root / "metrics/prepare.json", {"kept": 60, "conversations": {"train": 50, "test": 5}})
    write_json(root / "metrics/train.json", {"steps": 2, "stopped_early": False, "validation_loss": 9.25})
