"""Networks drawn by hand: layers to a Trace, without torch, for the same analyses to count.

What a sketch says is what tracing the same layers as modules of `torch.nn` says (tests hold it).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import msgspec

from cnnscope.analysis import shapes
from cnnscope.analysis.cost import item_size
from cnnscope.records.summary import Geometry
from cnnscope.records.trace import (
    CallRecord,
    ModuleRecord,
    OpRecord,
    ParamRecord,
    Shape,
    Source,
    StorageRecord,
    TensorRecord,
    Trace,
)

_KINDS = {"conv": "Conv2d", "max": "MaxPool2d", "avg": "AvgPool2d"}
_POOLS = {"max": "aten.max_pool2d_with_indices.default", "avg": "aten.avg_pool2d.default"}


class Layer(msgspec.Struct, frozen=True):
    """A convolution ("conv") or a pool ("max", "avg") over two axes; `channels` come out."""

    form: str
    geometry: Geometry
    channels: int


class Sketch:
    """A network as it is drawn: tensors are ids, each layer gives the id of its output."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.source = Source(name, "stack", name)
        self.modules, self.calls = [ModuleRecord("", "Stack")], [CallRecord(0, -1)]
        self.params: list[ParamRecord] = []
        self.tensors: list[TensorRecord] = []
        self.storages: list[StorageRecord] = []
        self.ops: list[OpRecord] = []
        self.around, self.uses = [0], dict[int, int]()
        self.input = self._tensor(shape, born=-1)

    def shape(self, tensor: int) -> Shape:
        """N, C, H, W."""
        return self.tensors[tensor].shape

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """A module around what is drawn inside."""
        call = self._call(name, "Sequential", {})
        self.around.append(call)
        yield
        self.around.pop()
        self._close(call, self.ops[-1].outputs[0])

    def slide(self, name: str, source: int, layer: Layer) -> int:
        """A convolution without bias, or a pool."""
        given, geometry = self.shape(source), layer.geometry
        slide = shapes.Slide("pool", geometry, 2, layer.channels)
        hyper: dict[str, Any] = {
            key: getattr(geometry, key) for key in ("kernel_size", "stride", "padding")
        }
        attributes = dict(hyper)
        inputs: dict[str, int | tuple[int | None, ...]] = {"self": source}
        out = self._tensor(slide.predict(given))
        extra: tuple[int, ...] = ()
        if layer.form == "conv":
            weight = (layer.channels, given[1] // geometry.groups, *geometry.kernel_size)
            inputs = {"input": source, "weight": self._weight(name, weight)}
            hyper |= {"in_channels": given[1], "out_channels": layer.channels, "bias": False}
            hyper |= {"dilation": geometry.dilation, "groups": geometry.groups}
            attributes |= {"bias": None, "transposed": False, "output_padding": (0, 0)}
            attributes |= {"dilation": geometry.dilation, "groups": geometry.groups}
            operation = "aten.convolution.default"
        else:
            operation = _POOLS[layer.form]
            if layer.form == "max":  # where each maximum was found
                extra = (self._tensor(self.shape(out), "int64"),)
        call = self._call(name, _KINDS[layer.form], hyper)
        return self._run(OpRecord(operation, inputs, (out, *extra), attributes, call), source)

    def relu(self, name: str, source: int) -> int:
        """In place: no memory of its own."""
        record = self.tensors[source]
        self.tensors.append(record)
        call = self._call(name, "ReLU", {"inplace": True})
        outputs = (len(self.tensors) - 1,)
        return self._run(
            OpRecord("aten.relu_.default", {"self": source}, outputs, {}, call), source
        )

    def cat(self, sources: tuple[int, ...]) -> int:
        """Along the channels."""
        channels = sum(self.shape(t)[1] for t in sources)
        first = self.shape(sources[0])
        out = self._tensor((first[0], channels, *first[2:]))
        self._add(OpRecord("aten.cat.default", {"tensors": sources}, (out,), {"dim": 1}, 0))
        return out

    def trace(self, output: int) -> Trace:
        """The trace of the drawing; a tensor dies after its last use."""
        end = len(self.ops)
        held = {self.tensors[t].storage for t in (self.input, output)}
        held |= {self.tensors[p.tensor].storage for p in self.params}
        dies = [
            end if s in held else self.uses.get(s, end - 1) + 1 for s in range(len(self.storages))
        ]
        self._close(0, output, source=self.input)
        return Trace(
            source=self.source,
            inputs=(self.input,),
            outputs=(output,),
            modules=tuple(self.modules),
            calls=tuple(self.calls),
            params=tuple(self.params),
            tensors=tuple(self.tensors),
            storages=tuple(
                msgspec.structs.replace(s, died=died)
                for s, died in zip(self.storages, dies, strict=True)
            ),
            ops=tuple(self.ops),
            device="paper",
        )

    # -- parts

    def _path(self, name: str) -> str:
        outer = self.modules[self.calls[self.around[-1]].module].path
        return f"{outer}.{name}" if outer else name

    def _tensor(self, shape: Shape, dtype: str = "float32", born: int | None = None) -> int:
        self.tensors.append(TensorRecord(shape, dtype, len(self.storages)))
        nbytes = prod(shape) * item_size(dtype)
        self.storages.append(StorageRecord(nbytes, len(self.ops) if born is None else born, 0))
        return len(self.tensors) - 1

    def _weight(self, name: str, shape: Shape) -> int:
        tensor = self._tensor(shape, born=-1)
        self.params.append(ParamRecord(f"{self._path(name)}.weight", tensor))
        return tensor

    def _call(self, name: str, kind: str, hyper: dict[str, Any]) -> int:
        self.modules.append(ModuleRecord(self._path(name), kind, kind, hyper))
        module = len(self.modules) - 1
        self.calls.append(CallRecord(module, self.around[-1], start=len(self.ops)))
        return len(self.calls) - 1

    def _close(self, call: int, output: int, source: int | None = None) -> None:
        given = () if source is None else (source,)
        self.calls[call] = msgspec.structs.replace(
            self.calls[call], inputs=given or self.calls[call].inputs, outputs=(output,)
        )

    def _run(self, record: OpRecord, source: int) -> int:
        """Let one operation be all that its call does."""
        self._add(record)
        self._close(record.call, record.outputs[0], source)
        return record.outputs[0]

    def _add(self, record: OpRecord) -> None:
        for tensor in (*record.tensors, *record.outputs):
            self.uses[self.tensors[tensor].storage] = len(self.ops)
        self.ops.append(record)
