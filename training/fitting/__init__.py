"""One optimisation of one model: loop, batches, checkpoints, distillation, sweeps."""
