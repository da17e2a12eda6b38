"""What the page is told of a guard, its calibration and its monitor, for JSON: what is infinite or unknown is None."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Calibration
from demur.drift.monitor import Monitor
from demur.guards.tensors import TensorGuard
from demur.serve.watching.history import calibration_rate, calibration_shares
from demur.serve.watching.recent import image_shape


def of_guard(guard: TensorGuard) -> dict[str, Any]:
    """What it takes and gives, and from which score on it flags: the lowest threshold and the highest."""
    levels = np.atleast_1d(np.asarray(np.nan if guard.threshold is None else guard.threshold, "float64"))
    levels = levels[np.isfinite(levels)]
    return {
        "detector": str(guard.detector),
        "classes": int(guard.classes),
        "input": picture_input(guard),
        "inputs": [
            {"name": name, "shape": list(one.shape), "dtype": str(one.dtype)} for name, one in guard.inputs.items()
        ],
        "outputs": list(guard.outputs),
        "threshold": [float(levels.min()), float(levels.max())] if len(levels) else None,
    }


def picture_input(guard: TensorGuard) -> dict[str, Any] | None:
    """How to send a picture to a guard whose only input is one; None where that cannot be."""
    if len(guard.inputs) != 1:
        return None
    ((name, one),) = guard.inputs.items()
    found = image_shape(tuple(one.shape))
    if found is None or np.dtype(one.dtype or "float32").kind not in "fiu":
        return None
    kind, height, width, channels = found
    return {"name": name, "kind": kind, "height": height, "width": width, "channels": channels, "dtype": str(one.dtype)}


def of_calibration(calibration: Calibration, edges: npt.NDArray[np.float64]) -> tuple[dict[str, Any], list[float]]:
    """Its figures, and the share of its scores in each bin."""
    size = sum(one.n for one in calibration.ordinary.values())
    figures = {"size": size, "promised": calibration.fpr, "rate": calibration_rate(calibration)}
    return figures, calibration_shares(calibration, edges)


def of_monitor(monitor: Monitor, trace: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """What it has found, and the way that the evidence took."""
    return {
        "watched": True,
        "count": monitor.count,
        "log_evidence": _finite(monitor.log_evidence),
        "log_limit": float(np.log(monitor.limit)),
        "alarm": monitor.alarm,
        "alarms": [
            {"at": one.at, "time": one.time, "log_evidence": _finite(one.log_evidence)} for one in monitor.alarms
        ],
        "alarm_count": monitor.alarm_count,
        "method": monitor.method,
        "alpha": monitor.alpha,
        "tolerance": monitor.tolerance,
        "every": monitor.every,
        "dependence": monitor.dependence_said if monitor.is_dependent else None,
        "trace": [[at, _finite(value)] for at, value in trace],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
