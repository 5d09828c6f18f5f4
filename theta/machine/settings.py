"""The `machine` section of params.yaml: what depends on the machine and not on the experiment.

No stage tracks this section, so moving to another machine does not retrain anything. The values used are written into
the provenance of the checkpoint.
"""

from typing import Annotated, Literal

from pydantic import Field

from theta.settings import Settings


class MachineSettings(Settings):
    """Where and how the stages compute. Values change results by rounding only, unless a docstring says otherwise."""

    device: Literal["auto", "cpu", "cuda"]
    """Where to train and evaluate; auto takes a CUDA GPU if there is one."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"]
    """GPUs of this machine to train on, with one process on each; auto takes all."""
    threads: Annotated[int, Field(ge=1)] | Literal["auto"]
    """CPU threads; auto takes the cores that this process may use. Two runs are bit-identical only with the
    same number."""
    memory: Literal["auto", "fast", "compact", "lean", "leanest", "float32"] | Annotated[float, Field(gt=0)]
    """How a GPU's memory is used: a plan, or a budget in GiB; auto takes the memory that the GPU has free. The result
    depends on the number formats of the plan; leanest learns worse and is taken only where nothing else fits."""
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """Number format of the matrix products, on which the result depends. auto takes bfloat16 where it is fast, else
    float16 on a GPU (with loss scaling) and float32 on a CPU."""
    compile: Literal["auto", "always", "never"]
    """Compile the model on a GPU, which takes about 20 seconds once; auto does so if the run is long enough."""
    tokens_per_microbatch: Annotated[int, Field(ge=16)] | Literal["auto"]
    """The most tokens of one forward pass; auto takes what fits."""
    steps_per_checkpoint: int = Field(ge=1)
    """Steps between two resume states; a kill costs at most the steps since the last one."""
