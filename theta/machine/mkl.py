"""The same bits in every run from MKL, with which torch computes in float32 on x86 processors.

Elsewhere nothing here has an effect.
"""

import os
import sys


def fix_order_of_sums() -> None:
    """Let products add in the same order with any number of threads and rows; must run before torch is imported.

    MKL chooses the order by both, and replies are computed with fewer threads while the machine is busy
    (`theta.machine.cpu_sharing`). In the fixed order, products of one row take about twice as long, and those
    of 24 rows are as fast. What the user has set is kept.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def prepare_vector_functions() -> None:
    """Let MKL choose its tanh, exp, log and roots in one thread; must run before several threads compute.

    At the first call of any of these, MKL notes the type of the processor in a variable, first by its number in another
    list. A thread that reads the variable in that moment takes a function for another processor and of a lower
    accuracy, so that its part of the tensor has errors of 1e-4 (docs/decisions.md;
    https://github.com/pytorch/pytorch/issues/188792). A single number is computed in one thread.
    """
    import torch

    torch.ones(1).tanh()
