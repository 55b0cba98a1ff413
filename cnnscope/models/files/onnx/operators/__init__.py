"""What each operator of ONNX is in PyTorch's operations: one function for each (onnx.ai/onnx)."""

from cnnscope.models.files.onnx.operators import (  # noqa: F401  each registers its operators
    control,
    elementwise,
    folding,
    moves,
    norms,
    products,
    quantised,
    recurrent,
    reductions,
    resampling,
    windows,
)
