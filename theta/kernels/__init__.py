"""GPU kernels in Triton; they import nothing else of Theta."""
