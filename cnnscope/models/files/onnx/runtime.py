"""Run an ONNX file with its weights, by onnxruntime: what `bench` times."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.program import Program, argument_names
from cnnscope.text import printable, said

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session(nn.Module):
    """A graph in onnxruntime, with as many threads as torch has, called with tensors.

    Attributes:
        runtime: what runs it, for reports.
    """

    def __init__(self, program: Program, device: str) -> None:
        """Load the file.

        Args:
            program: the graph, which has been read and checked.
            device: "cpu" or "cuda".

        Raises:
            RequestError: onnxruntime is missing, has no such device, or cannot load the file.
        """
        super().__init__()
        runtime = _imported(program.file)
        self.runtime = f"onnxruntime {runtime.__version__}"
        kind = torch.device(device).type
        provider = _PROVIDERS.get(kind, "")
        if provider not in runtime.get_available_providers():
            raise RequestError(
                f"{printable(program.file)}: this onnxruntime does not run on {kind}: give "
                "--device cpu, or install onnxruntime-gpu"
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Else its idle threads keep the cores busy while another model has its turn.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(program.file, options, providers=[provider])
        except Exception as error:
            raise RequestError(
                f"{printable(program.file)}: onnxruntime cannot load it: {said(error, 200)}"
            ) from error
        names = [one.name for one in program.graph.inputs]
        self.names = dict(zip(argument_names(names), names, strict=True))

    def forward(self, *given: Tensor, **named: Tensor) -> tuple[Any, ...]:
        """Run the graph; tensors of the CPU are handed over without a copy."""
        places = dict(zip(self.names, given, strict=False)) | named
        feed = {self.names[name]: tensor.cpu().numpy() for name, tensor in places.items()}
        return tuple(map(torch.from_numpy, self.session.run(None, feed)))


def _imported(file: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RequestError(
            f"{printable(file)}: bench runs an ONNX file by onnxruntime, which is not installed: "
            "pip install onnxruntime"
        ) from error
    return onnxruntime
