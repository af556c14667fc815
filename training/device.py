"""Where PyTorch computes the steps of a ranker's fit."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from models.errors import BadInput


def checked_device(name: str) -> torch.device:
    """Return a device that tensors can be made on.

    Args:
        name: as PyTorch has it, such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        BadInput: there is none of this name here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as e:  # which it is depends on how PyTorch was built
        why = str(e).splitlines()[0].rstrip(".")
        raise BadInput(
            f"PyTorch {torch.__version__} cannot compute on the device {name!r} here ({why}); take "
            f"{' or '.join(_there_are())}."
        ) from e
    return device


def constants_on(device: torch.device) -> AbstractContextManager[object]:
    """Make tensors on a device where none is named, as the constants of a network are."""
    return nullcontext() if device.type == "cpu" else device


def _there_are() -> list[str]:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]
