"""The resume state of a run: complete, checked byte by byte, and useful on another machine."""

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.support.runs import new_run
from theta.errors import TrainingError
from theta.train import resume_state
from theta.train.loop import train


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state.*.pt", "best.*.safetensors"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_found(tmp_path: Path, name: str, place: float) -> None:
    for record in train(new_run(tmp_path, keep="best")):
        if record["step"] == 8:
            break
    [file] = (tmp_path / "resume").glob(name)
    best = partial(resume_state.load_best, tmp_path / "resume")
    content = bytearray(file.read_bytes())
    content[round(place * len(content))] ^= 1
    file.write_bytes(content)
    read = (lambda: list(train(new_run(tmp_path, keep="best")))) if name.startswith("state") else best
    with pytest.raises(TrainingError, match=r"cannot be resumed \(its bytes are not those that were written\); delete"):
        read()


def test_only_the_newest_state_is_kept(tmp_path: Path) -> None:
    list(train(new_run(tmp_path, keep="best")))
    kept = sorted(path.name.split(".")[0] for path in (tmp_path / "resume").iterdir())
    assert kept == ["best", "state"]


@pytest.mark.slow
def test_a_run_continues_with_other_machine_settings(tmp_path: Path) -> None:
    """Other microbatches and more frequent states change the result by rounding only, which AdamW magnifies."""
    whole = new_run(tmp_path / "whole", dropout=0.0)
    list(train(whole))
    for record in train(new_run(tmp_path / "cut", dropout=0.0)):
        if record["step"] == 8:
            break
    resumed = new_run(tmp_path / "cut", dropout=0.0, tokens_per_microbatch=128, steps_per_checkpoint=1)
    records = list(train(resumed))
    assert [record["step"] for record in records if record.get("resumed")][-1] == 6
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, atol=5e-3, rtol=0)
