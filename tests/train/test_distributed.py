"""What ranks agree on, in two processes for all tests: one plan for the smallest GPU, and every document once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from tests.support.runs import VOCABULARY_SIZE, make_store, settings_with
from theta.errors import SettingsError
from theta.memory.plans import GIB
from theta.model import network
from theta.tokens.store import Store
from theta.train import choose
from theta.train.compute import Compute
from theta.train.distributed import Ranks

pytestmark = pytest.mark.slow

TOKENS_PER_STEP = 1024


LARGE, SMALL = 24 * GIB, 0.15 * GIB
CASES: dict[str, tuple[list[float], list[torch.dtype]]] = {
    "unlike": ([LARGE, SMALL], [torch.bfloat16] * 2),
    "small": ([SMALL, SMALL], [torch.bfloat16] * 2),
    "large": ([LARGE, LARGE], [torch.bfloat16] * 2),
    "formats": ([LARGE, LARGE], [torch.bfloat16, torch.float16]),
}
"""Memory and number format of each rank."""


def chosen(rank: int, folder: str) -> None:
    """One of two ranks with a GPU of its own: write its choices and the documents that it computes to a file."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {name: of_case(rank, folder, sizes[rank], kinds[rank]) for name, (sizes, kinds) in CASES.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def of_case(rank: int, folder: str, budget: float, dtype: torch.dtype) -> Any:
    """What the rank chooses and computes, or the error in words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "budget_bytes", lambda *_: budget)
        patch.setattr(choose, "choose_dtype", lambda *_: dtype)
        # A plan for a GPU, though the tensors are on the CPU.
        place = choose.choose_placement
        cuda = torch.device("cuda")
        patch.setattr(choose, "choose_placement", lambda a, b, size, _, *rest: place(a, b, size, cuda, *rest))
        try:
            return computed(rank, Path(folder))
        except SettingsError as fault:
            return str(fault)


def computed(rank: int, folder: Path) -> tuple[str, int, list[str]]:
    settings, machine = settings_with(tokens_per_step=TOKENS_PER_STEP, tokens_per_microbatch="auto")
    store = Store(folder / "train.arrow")
    model = network.new(12, 4, 256, seed=0, vocabulary_size=VOCABULARY_SIZE)
    compute: Compute = choose.choose_compute(
        settings, machine, model, VOCABULARY_SIZE, store, store, ranks=Ranks(rank, 2)
    )
    learned = [str(tuple(row.targets.tolist())) for row in compute.rows(store, range(len(store)))]
    return compute.plan.name, compute.tokens_per_microbatch, learned


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    make_store(made / "train.arrow", 40, 1)
    spawn(chosen, args=(str(made),), nprocs=2)
    return made


def found_by_both(folder: Path, case: str) -> list[Any]:
    return [torch.load(folder / f"{rank}.pt")[case] for rank in range(2)]


def test_different_gpus_take_the_plan_of_the_smaller_one_and_every_document_once(folder: Path) -> None:
    one, two = found_by_both(folder, "unlike")
    alone, roomy = (found_by_both(folder, case)[0] for case in ("small", "large"))
    assert one[:2] == two[:2] == alone[:2]
    assert roomy[:2] != one[:2], "the larger GPU alone would take another plan"
    store = Store(folder / "train.arrow")
    assert sum(len(row.split(",")) for row in one[2] + two[2]) == store.learned_counts.sum()


def test_gpus_that_compute_in_different_ways_are_refused_in_one_line(folder: Path) -> None:
    for said in found_by_both(folder, "formats"):
        assert said == (
            "The GPUs of this machine compute in different ways (cpu in bfloat16, cpu in float16); set "
            "machine.devices to 1, or choose the GPUs with CUDA_VISIBLE_DEVICES."
        )
