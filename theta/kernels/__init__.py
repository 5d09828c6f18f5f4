"""GPU kernels in Triton; they import nothing of Theta."""
