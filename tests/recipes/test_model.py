"""The weights that come with the clone are small, complete, trained and described."""

from pathlib import Path

from safetensors import safe_open

from theta.files import read_json
from theta.tokens.store import Store, write_batches
from theta.tokens.vocabulary import Vocabulary

FOLDER = Path(__file__).parents[2] / "models" / "starter"
TEXT = (
    "A database is a collection of data that is stored on a computer, so that programs can find and change it. "
    "Most of them keep their data in tables. Each row of a table is one record, and each column is one of its fields."
)


def test_weights_are_small_and_in_bfloat16() -> None:
    file = FOLDER / "model.safetensors"
    assert file.stat().st_size < 50e6
    with safe_open(file, "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    config = read_json(FOLDER / "config.json")
    assert (config["n_positions"], config["vocab_size"]) == (1024, Vocabulary.load(FOLDER).size)


def test_the_pipeline_starts_from_it() -> None:
    from theta.bases import descriptors
    from theta.params import load_whole

    root = FOLDER.parents[1]
    assert load_whole(root / "params.yaml").model.base == FOLDER.relative_to(root).as_posix()
    assert descriptors.shape(str(FOLDER)) == {
        "layers": 12,
        "heads": 4,
        "width": 256,
        "positions": 1024,
        "vocabulary_size": 50262,
    }


def test_it_knows_english(tmp_path: Path) -> None:
    """An untrained model has 10.8 nats per token; the same words without their order are much less likely."""
    import torch

    from theta.conversation.messages import Conversation, Message
    from theta.evaluate.likelihood import measure
    from theta.model import network
    from theta.tokens.encode import ConversationEncoder

    vocabulary, words = Vocabulary.load(FOLDER), TEXT.split()
    texts = (TEXT, " ".join(sorted(words)))
    conversations = [Conversation((Message("text", text),), "prose", f"x#{i}") for i, text in enumerate(texts)]
    write_batches(tmp_path / "test.arrow", [ConversationEncoder(vocabulary).encode(conversations, 512).documents])
    store = Store(tmp_path / "test.arrow")
    scores = measure(network.load(FOLDER), store, vocabulary.size, 4096, torch.device("cpu"))
    ordered, shuffled = (scores.nats / store.learned_counts).tolist()
    assert ordered < 4
    assert shuffled > ordered + 1


def test_its_card_has_data_licences_loss_and_samples() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    evaluated = read_json(FOLDER.parents[1] / "recipes" / "starter" / "metrics" / "evaluate.json")
    assert f"{evaluated['test']['bits_per_byte']:.3f} bits per byte" in card
    for part in ("licence", "copyleft", "validation loss", "| question | reply |"):
        assert part in card


def test_other_readers_find_what_an_export_holds_today(tmp_path: Path) -> None:
    Vocabulary.load(FOLDER).save(tmp_path / "tokenizer", max_length=1024)
    for path in (tmp_path / "tokenizer").iterdir():
        assert (FOLDER / path.name).read_bytes() == path.read_bytes(), path.name
    config = read_json(FOLDER / "config.json")
    assert config["n_ctx"] == config["n_positions"]
