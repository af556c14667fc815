"""One thread: on a busy machine two that wait for each other make small fits ten times slower."""

import torch

torch.set_num_threads(1)
