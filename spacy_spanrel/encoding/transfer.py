"""Copies of small tensors to the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, without waiting for the device.

    values (Tensor): A tensor on the CPU.
    device (torch.device): The device that needs it.
    RETURNS (Tensor): The same values on that device.
    """
    if device.type == "cuda":
        # A copy from ordinary memory waits until the device has done all its work so far. Pinned
        # memory costs little: torch keeps its blocks and uses them again.
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
