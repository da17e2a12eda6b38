"""The processes of `torch.distributed`, with a device each."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from demur.backends.devices import ONE, Devices, Share, Tensor, Whole, parts_of, spread
from demur.errors import DemurError, InvalidSetting
from demur.private import begin_at, first_epoch

Found = TypeVar("Found")

AT_ONCE = 65_536
"""Rows of a reference that go from one process to the others at once."""


class Ranks(Devices):
    """The processes of `torch.distributed`, with a device each.

    Gradients are added up after the backward pass, in one piece, and not by DistributedDataParallel, which is no faster
    on the autoencoder of images: it wants one call of the model a step, and `robust` calls it several times.
    """

    def __init__(self) -> None:
        import torch.distributed as dist

        self.dist = dist
        self.count = self.processes = dist.get_world_size()
        self.rank = dist.get_rank()
        self.place = "cpu" if "cpu" in dist.get_backend_config() else "cuda"
        self._statistics: list[Any] = []

    def own(self, chosen: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """This process's rows, or one that counts nothing if it has none."""
        places = spread(len(chosen), self.count)[self.rank]
        own = places[places < len(chosen)]
        return chosen[own] if len(own) else chosen[-1:]

    def sent(self, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
        """The rows, and what each counts."""
        places = spread(rows, self.count)[self.rank]
        return {**inputs, "parts": parts_of(places[: max(1, int((places < rows).sum()))], rows)}

    def received(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Whole]:
        """The rows, and what they are of the batch."""
        inputs = dict(inputs)
        return inputs, Share(inputs.pop("parts"), self)

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes."""
        value = value.detach().clone()
        if value.device.type != "meta":  # Keras only asks for shapes
            self.dist.all_reduce(value)
        return value

    def weight(self, rows: Tensor) -> Tensor:
        """The rows of all: each process keeps its own metrics, of the whole batch."""
        return self.total(rows)

    def all_rows(self, views: list[Tensor]) -> list[Tensor]:
        """The rows of all processes, in the order of the batch, so that each has the same metrics."""
        import torch

        joined = torch.cat([view.detach() for view in views], dim=1)
        sizes = [torch.zeros(1, dtype=torch.int64, device=joined.device) for _ in range(self.count)]
        self.dist.all_gather(sizes, torch.full_like(sizes[0], len(joined)))
        counts = [int(size) for size in sizes]
        filled = joined.new_zeros((max(counts), joined.shape[1]))
        filled[: len(joined)] = joined
        found = [torch.empty_like(filled) for _ in counts]
        self.dist.all_gather(found, filled)
        everything = torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])
        return list(torch.split(everything, [view.shape[1] for view in views], dim=1))

    def start(self, trainer: Any, callbacks: Sequence[Any]) -> list[Any]:
        """All start from the first process's weights. What writes files, or shows progress, is for that one only."""
        writing = (
            keras.callbacks.ModelCheckpoint,
            keras.callbacks.BackupAndRestore,
            keras.callbacks.CSVLogger,
            keras.callbacks.TensorBoard,
            keras.callbacks.RemoteMonitor,
            keras.callbacks.ProgbarLogger,
        )
        trainer.optimizer.build(trainer.trainable_variables)
        learned = _tensors(trainer.companion)
        self._statistics = [t for t in learned if t.is_floating_point() and not t.requires_grad]
        kept = [callback for callback in callbacks if self.rank == 0 or not isinstance(callback, writing)]
        return [*kept, _InStep(self)]

    def from_the_first(self, trainer: Any) -> None:
        """Take over the first process's weights, optimizer and epoch: what a `BackupAndRestore` has brought back."""
        import torch

        optimizer = [variable.value for variable in trainer.optimizer.variables]
        with torch.no_grad():
            for tensor in [*_tensors(trainer.companion), *optimizer]:
                there = tensor.detach().contiguous()
                self.dist.broadcast(there, src=0)
                tensor.copy_(there)
        begin_at(trainer, int(self.alike(float(first_epoch(trainer)))))

    def step(self, trainer: Any, arguments: Sequence[Any], usual: Callable[..., Any]) -> Any:
        """A step as Keras takes it, in which gradients and a BatchNormalization's statistics are added up."""
        import torch

        ((inputs,),) = arguments
        y_pred = trainer(inputs, training=True)
        trainer.zero_grad()
        trainer.optimizer.scale_loss(y_pred["loss"]).backward()
        weights = trainer.trainable_weights
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            self._add_up([gradient for gradient in gradients if gradient is not None])
            trainer.optimizer.apply(gradients, weights)
            self._add_up(self._statistics, average=True)
        return trainer.compute_metrics(inputs, None, y_pred)

    def _add_up(self, tensors: list[Any], average: bool = False) -> None:
        """Replace tensors by their sums over the processes, or by their averages."""
        import torch

        if not tensors:
            return
        # In double precision, the average of what is the same everywhere is just that.
        joined = torch.cat([tensor.reshape(-1).to(torch.float64 if average else tensor.dtype) for tensor in tensors])
        self.dist.all_reduce(joined)
        joined = joined / self.count if average else joined
        for tensor, total in zip(tensors, torch.split(joined, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.reshape(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        import torch

        flags = torch.tensor([float(flag)], device=self.place)
        self.dist.all_reduce(flags)
        return bool(flags.item() > 0)

    def alike(self, value: float) -> float:
        """The first process's value."""
        import torch

        value_there = torch.tensor([value], dtype=torch.float64, device=self.place)
        self.dist.broadcast(value_there, src=0)
        return float(value_there.item())

    def check_alike(self, settings: dict[str, Any]) -> None:
        """Raise InvalidSetting unless all processes have the same settings."""
        for rank, others in enumerate(self._told(settings)):
            different = [name for name in settings if others.get(name) != settings[name]]
            if different:
                raise InvalidSetting(
                    "each process is given the same classifier, rows and settings, and takes its share of every batch "
                    f"by itself; process {rank} differs from process {self.rank} in {', '.join(different)}"
                )

    def gathered(self, rows: int, compute: Callable[[slice], list[Any]], allocate: Any) -> list[Any]:
        """Each process computes a part; all get the whole."""
        import torch

        if rows < self.count:
            return compute(slice(0, rows))
        ends = [rank * rows // self.count for rank in range(self.count + 1)]
        own = slice(ends[self.rank], ends[self.rank + 1])
        found = self._or_none(lambda: compute(own))
        arrays = [allocate((rows, *part.shape[1:]), part.dtype) for part in found]
        for array, part in zip(arrays, found, strict=True):
            array[own] = part
            for rank in range(self.count):
                for start in range(ends[rank], ends[rank + 1], AT_ONCE):
                    piece = array[start : min(start + AT_ONCE, ends[rank + 1])]
                    there = torch.from_numpy(np.array(piece)).to(self.place)
                    self.dist.broadcast(there, src=rank)
                    piece[...] = there.cpu().numpy()
        return arrays

    def _or_none(self, work: Callable[[], Found]) -> Found:
        """The result of some work; where it fails in one process, it fails in all, so that none waits for it."""
        found: list[Found] = []
        error: Exception | None = None
        try:
            found.append(work())
        except Exception as raised:
            error = raised
        failed = [(rank, told) for rank, told in enumerate(self._told(repr(error) if error else None)) if told]
        if error is not None:
            raise error
        if failed:
            raise DemurError(f"process {failed[0][0]} of {self.count} failed: {failed[0][1]}")
        return found[0]

    def _told(self, what: Any) -> list[Any]:
        """What each process tells the others."""
        told: list[Any] = [None] * self.count
        self.dist.all_gather_object(told, what)
        return told


class _InStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps processes together: they start from the same weights, and stop after the same epoch."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def on_train_begin(self, logs: Any = None) -> None:
        self.ranks.from_the_first(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = self.ranks.any(self.model.stop_training)


def _tensors(companion: Any) -> list[Any]:
    """All that a companion has learned, as PyTorch's tensors."""
    found = [variable.value for variable in companion.variables]
    return [*found, *(buffer for buffer in companion.buffers() if all(buffer is not other for other in found))]


def ranks() -> Devices:
    """The processes that train together; one if they are not several.

    Raises:
        InvalidSetting: there are several, and they do not know of one another.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return Ranks() if dist.get_world_size() > 1 else ONE
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidSetting(
            f"torchrun has started {os.environ['WORLD_SIZE']} processes, and each would train by itself: call "
            "torch.distributed.init_process_group() first, or start one process"
        )
    return ONE
