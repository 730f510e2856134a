"""Tests run many small tensor operations: one thread is faster for them than two that wait for each other."""

import torch

torch.set_num_threads(1)
