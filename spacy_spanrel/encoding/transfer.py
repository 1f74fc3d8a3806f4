"""Small arrays of numbers on their way to the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Send what was worked out on the CPU to a device, without waiting for the device.

    values (Tensor): On the CPU.
    device (torch.device): Where it is needed.
    RETURNS (Tensor): The same values there.
    """
    if device.type == "cuda":
        # From ordinary memory the copy would wait until all that was launched before it is done;
        # the blocks of pinned memory are kept by torch, and used again.
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
