"""Names for numpy arrays of the types that the package uses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
DoubleArray = NDArray[np.float64]
AnyArray = NDArray[Any]
