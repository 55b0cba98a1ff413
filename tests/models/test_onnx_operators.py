"""Sizes and dtypes of every operator, beside those of onnx's reference evaluator."""

import numpy as np
import pytest
import torch
from onnx import TensorProto as T
from onnx_graphs import floats, graph, ints, node, one, reference, save

from cnnscope.models.files.onnx.program import Program

f, i = floats, ints
X = [2, 4, 9, 11]


def s(*items):
    return np.array(items, np.float32)


def u8(*shape):
    return np.asarray(f(*shape) * 255).astype(np.uint8)


def i8(*shape):
    return np.asarray(f(*shape) * 100).astype(np.int8)


CASES = {
    "conv": lambda: one("Conv", X, f(6, 4, 3, 3), f(6), pads=[1, 1, 1, 1]),
    "conv same_upper": lambda: one("Conv", X, f(6, 4, 3, 4), auto_pad="SAME_UPPER", strides=[2, 3]),
    "conv same_lower": lambda: one("Conv", X, f(6, 4, 2, 4), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv valid": lambda: one("Conv", X, f(6, 4, 3, 3), auto_pad="VALID", dilations=[2, 2]),
    "conv asym": lambda: one("Conv", X, f(6, 2, 3, 3), pads=[0, 1, 2, 3], group=2),
    "conv1d": lambda: one("Conv", [1, 4, 9], f(6, 4, 3)),
    "conv3d": lambda: one("Conv", [1, 2, 5, 6, 7], f(6, 2, 3, 3, 3), pads=[1] * 6),
    "convt": lambda: one(
        "ConvTranspose", X, f(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]
    ),
    "convt asym": lambda: one("ConvTranspose", X, f(4, 3, 3, 3), strides=[2, 2], pads=[0, 1, 1, 0]),
    "convt same": lambda: one(
        "ConvTranspose", X, f(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "convt shape": lambda: one(
        "ConvTranspose", X, f(4, 3, 3, 3), strides=[2, 2], output_shape=[18, 22]
    ),
    "convt group": lambda: one("ConvTranspose", X, f(4, 3, 2, 2), strides=[2, 2], group=2),
    "maxpool": lambda: one("MaxPool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "maxpool ceil": lambda: one("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "maxpool dil": lambda: one("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 3]),
    "maxpool same": lambda: one(
        "MaxPool", X, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    "maxpool idx": lambda: one("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], outputs="y z"),
    "maxpool asym": lambda: one(
        "MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]
    ),
    "avgpool": lambda: one(
        "AveragePool",
        X,
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    "avgpool asym": lambda: one(
        "AveragePool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]
    ),
    "avgpool dil": lambda: one(
        "AveragePool", X, kernel_shape=[2, 2], dilations=[2, 2], strides=[2, 1]
    ),
    "avgpool ceil": lambda: one("AveragePool", X, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "lppool": lambda: one("LpPool", X, kernel_shape=[2, 2], strides=[2, 2], p=2),
    "gap": lambda: one("GlobalAveragePool", X),
    "gmp": lambda: one("GlobalMaxPool", X),
    "gemm": lambda: one("Gemm", [3, 4], f(5, 4), f(5), transB=1),
    "gemm2": lambda: one("Gemm", [4, 3], f(4, 5), f(3, 5), transA=1, alpha=0.5),
    "matmul": lambda: one("MatMul", [2, 3, 4], f(4, 5)),
    "matmul2": lambda: one("MatMul", [2, 1, 3, 4], f(6, 4, 5)),
    "matmul fused": lambda: one(
        "FusedMatMul", [3, 2, 4, 5], [2, 4, 6, 5], domain="com.microsoft", transBatchA=1, transB=1
    ),
    "matvec": lambda: one("MatMul", [3, 4], f(4)),
    "bn": lambda: one("BatchNormalization", X, f(4), f(4), f(4), f(4)),
    "bn train": lambda: one(
        "BatchNormalization", X, f(4), f(4), f(4), f(4), training_mode=1, outputs="y m v"
    ),
    "in": lambda: one("InstanceNormalization", X, f(4), f(4)),
    "ln": lambda: one("LayerNormalization", X, f(11), f(11)),
    "ln2": lambda: one("LayerNormalization", X, f(9, 11), axis=2),
    "ln out": lambda: one("LayerNormalization", X, f(11), outputs="y m v"),
    "gn21": lambda: one("GroupNormalization", X, f(4), f(4), num_groups=2),
    "gn18": lambda: one("GroupNormalization", X, f(2), f(2), num_groups=2, opset=18),
    "rms": lambda: one("RMSNormalization", X, f(11), opset=23),
    "softmax": lambda: one("Softmax", X, axis=1),
    "softmax11": lambda: one("Softmax", X, axis=1, opset=11),
    "hardmax": lambda: one("Hardmax", X),
    "logsm": lambda: one("LogSoftmax", X),
    "resize sizes": lambda: one("Resize", X, None, None, i(2, 4, 18, 7), mode="linear"),
    "resize scales": lambda: one(
        "Resize",
        X,
        None,
        s(1, 1, 2, 2),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "resize scales frac": lambda: one(
        "Resize",
        X,
        None,
        s(1, 1, 1.5, 0.6),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "resize lin frac": lambda: one(
        "Resize",
        X,
        None,
        s(1, 1, 1.5, 0.6),
        mode="linear",
        coordinate_transformation_mode="asymmetric",
    ),
    "resize half": lambda: one("Resize", X, None, s(1, 1, 0.5, 0.5), mode="nearest"),
    "resize cubic": lambda: one("Resize", X, None, s(1, 1, 2, 2), mode="cubic"),
    "resize axes": lambda: one(
        "Resize",
        X,
        None,
        None,
        i(20, 30),
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
        opset=18,
    ),
    "resize align": lambda: one(
        "Resize",
        X,
        None,
        s(1, 1, 2, 2),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "resize 10": lambda: one("Resize", X, s(1, 1, 2, 2), mode="nearest", opset=10),
    "upsample 9": lambda: one("Upsample", X, s(1, 1, 2, 2), mode="linear", opset=9),
    "clip": lambda: one("Clip", X, s(0).reshape(()), s(6).reshape(())),
    "clip6": lambda: one("Clip", X, min=0.0, max=6.0, opset=7),
    "clip lo": lambda: one("Clip", X, s(0).reshape(())),
    "reducemean": lambda: one("ReduceMean", X, i(2, 3)),
    "reducemean13": lambda: one("ReduceMean", X, axes=[2, 3], keepdims=0, opset=13),
    "rsum noop": lambda: one("ReduceSum", X, noop_with_empty_axes=1),
    "rsum all": lambda: one("ReduceSum", X, keepdims=0),
    "rl2": lambda: one("ReduceL2", X, i(1)),
    "rl1": lambda: one("ReduceL1", X, i(1)),
    "rlse": lambda: one("ReduceLogSumExp", X, i(1)),
    "rprod": lambda: one("ReduceProd", X, i(1, 2)),
    "rmax": lambda: one("ReduceMax", X, i(-1)),
    "rss": lambda: one("ReduceSumSquare", X, i(-1)),
    "argmax": lambda: one("ArgMax", X, axis=1, keepdims=0),
    "topk": lambda: one("TopK", X, i(3), outputs="v k"),
    "lstm": lambda: one(
        "LSTM", [5, 2, 3], f(1, 16, 3), f(1, 16, 4), f(1, 32), hidden_size=4, outputs="y h c"
    ),
    "lstm bi": lambda: one(
        "LSTM",
        [5, 2, 3],
        f(2, 16, 3),
        f(2, 16, 4),
        f(2, 32),
        None,
        f(2, 2, 4),
        f(2, 2, 4),
        hidden_size=4,
        direction="bidirectional",
        outputs="y h c",
    ),
    "lstm rev": lambda: one(
        "LSTM",
        [5, 2, 3],
        f(1, 16, 3),
        f(1, 16, 4),
        hidden_size=4,
        direction="reverse",
        outputs="y h c",
    ),
    "gru": lambda: one(
        "GRU", [5, 2, 3], f(1, 12, 3), f(1, 12, 4), f(1, 24), hidden_size=4, outputs="y h"
    ),
    "rnn": lambda: one(
        "RNN", [5, 2, 3], f(1, 4, 3), f(1, 4, 4), f(1, 8), hidden_size=4, outputs="y h"
    ),
    "lstm layout": lambda: one(
        "LSTM", [2, 5, 3], f(1, 16, 3), f(1, 16, 4), hidden_size=4, layout=1, outputs="y h c"
    ),
    "einsum": lambda: one("Einsum", [2, 3, 4], [2, 4, 5], equation="bij,bjk->bik"),
    "attention": lambda: one(
        "Attention", [2, 6, 8], [2, 7, 8], [2, 7, 8], q_num_heads=2, kv_num_heads=2, opset=23
    ),
    "attention gqa": lambda: one("Attention", [2, 4, 6, 8], [2, 2, 7, 8], [2, 2, 7, 8], opset=23),
    "qlinearconv": lambda: one(
        "QLinearConv",
        ([1, 4, 9, 9], T.UINT8),
        s(0.1).reshape(()),
        u8(),
        i8(6, 4, 3, 3),
        f(6),
        np.zeros(6, np.int8),
        s(0.1).reshape(()),
        u8(),
        np.zeros(6, np.int32),
    ),
    "convinteger": lambda: one(
        "ConvInteger", ([1, 4, 9, 9], T.UINT8), u8(6, 4, 3, 3), u8(1).reshape(())
    ),
    "qlinearmatmul": lambda: one(
        "QLinearMatMul",
        ([2, 4], T.UINT8),
        s(0.1).reshape(()),
        u8(),
        i8(4, 5),
        s(0.1).reshape(()),
        i8(),
        s(0.1).reshape(()),
        u8(),
    ),
    "matmulinteger": lambda: one("MatMulInteger", ([2, 4], T.UINT8), u8(4, 5), u8(1).reshape(())),
    "quant": lambda: one("QuantizeLinear", X, s(0.1).reshape(()), i8()),
    "quant ch": lambda: one("QuantizeLinear", X, f(4), np.zeros(4, np.int8), axis=1),
    "dequant": lambda: one("DequantizeLinear", (X, T.UINT8), s(0.1).reshape(()), u8()),
    "dequant ch": lambda: one("DequantizeLinear", (X, T.INT8), f(4), np.zeros(4, np.int8), axis=1),
    "dequant block": lambda: one(
        "DequantizeLinear",
        ([4, 8], T.INT8),
        f(4, 2),
        np.zeros((4, 2), np.int8),
        axis=1,
        block_size=4,
    ),
    "dynquant": lambda: one("DynamicQuantizeLinear", [3, 4], outputs="y s z"),
    "d2s": lambda: one("DepthToSpace", X, blocksize=2),
    "d2s crd": lambda: one("DepthToSpace", X, blocksize=2, mode="CRD"),
    "s2d": lambda: one("SpaceToDepth", [1, 2, 4, 6], blocksize=2),
    "pad": lambda: one("Pad", X, i(0, 0, 1, 2, 0, 0, 3, 4)),
    "pad reflect": lambda: one("Pad", X, i(0, 0, 1, 2, 0, 0, 3, 4), mode="reflect"),
    "pad edge": lambda: one("Pad", X, i(0, 0, 1, 2, 0, 0, 3, 4), mode="edge"),
    "pad edge0": lambda: one("Pad", X, i(1, 0, 0, 0, 0, 2, 0, 0), mode="edge"),
    "pad wrap": lambda: one("Pad", X, i(0, 0, 1, 2, 0, 0, 3, 4), mode="wrap"),
    "pad neg": lambda: one("Pad", X, i(0, 0, -1, 2, 0, 0, 3, -4)),
    "pad axes": lambda: one("Pad", X, i(1, 2), None, i(3)),
    "slice": lambda: one("Slice", X, i(1, -5), i(100, -1), i(2, 3), i(2, 1)),
    "slice neg": lambda: one("Slice", X, i(-1), i(-100), i(3), i(-2)),
    "slice neg2": lambda: one("Slice", X, i(7), i(1), i(3), i(-2)),
    "slice9": lambda: one("Slice", X, starts=[1], ends=[5], axes=[2], opset=9),
    "gather": lambda: one("Gather", X, i(0, 2), axis=1),
    "gather s": lambda: one("Gather", X, np.array(1), axis=1),
    "gather emb": lambda: one("Gather", f(10, 4), ([2, 3], T.INT64)),
    "gather 2d": lambda: one("Gather", X, i(0, 2, 1, 1).reshape(2, 2), axis=2),
    "gather neg": lambda: one("Gather", X, np.array(-1), axis=1),
    "gathere": lambda: one("GatherElements", [3, 4], i(0, 1, 2, 0).reshape(1, 4), axis=0),
    "gathernd": lambda: one("GatherND", X, i(0, 1, 1, 2).reshape(2, 2)),
    "gathernd b": lambda: one("GatherND", [2, 3, 4], i(0, 1).reshape(2, 1), batch_dims=1),
    "scatterE": lambda: one("ScatterElements", [3, 4], i(0, 1).reshape(1, 2), f(1, 2), axis=1),
    "scatternd": lambda: one("ScatterND", [4, 5], i(0, 1).reshape(2, 1), f(2, 5)),
    "split": lambda: one("Split", X, outputs="a b", axis=1, num_outputs=2),
    "split u": lambda: one("Split", X, i(3, 6), outputs="a b", axis=2),
    "split13": lambda: one("Split", X, outputs="a b", axis=1, opset=13),
    "split7": lambda: one("Split", X, outputs="a b", axis=2, split=[4, 5], opset=7),
    "concat": lambda: one("Concat", X, f(2, 3, 9, 11), axis=1),
    "expand": lambda: one("Expand", [3, 1], i(2, 1, 6)),
    "tile": lambda: one("Tile", [3, 2], i(2, 3)),
    "reshape": lambda: one("Reshape", X, i(0, -1, 11)),
    "flatten": lambda: one("Flatten", X, axis=2),
    "flatten0": lambda: one("Flatten", X, axis=0),
    "transpose": lambda: one("Transpose", X),
    "squeeze": lambda: one("Squeeze", [1, 3, 1], i(0)),
    "squeeze all": lambda: one("Squeeze", [1, 3, 1]),
    "unsq": lambda: one("Unsqueeze", [3], i(0, -1)),
    "where": lambda: one("Where", ([3, 1], T.BOOL), [3, 4], f(1, 4)),
    "trilu": lambda: one("Trilu", [3, 4], np.array(1)),
    "onehot": lambda: one("OneHot", ([2, 3], T.INT64), np.array(5), s(0, 1)),
    "cumsum": lambda: one("CumSum", [3, 4], np.array(1)),
    "lrn": lambda: one("LRN", X, size=3),
    "prelu": lambda: one("PRelu", X, f(4, 1, 1)),
    "hs": lambda: one("HardSigmoid", X),
    "hsw": lambda: one("HardSwish", X),
    "gelu": lambda: one("Gelu", X),
    "elu": lambda: one("Elu", X),
    "mish": lambda: one("Mish", X),
    "celu": lambda: one("Celu", X),
    "selu": lambda: one("Selu", X),
    "thr": lambda: one("ThresholdedRelu", X),
    "shrink": lambda: one("Shrink", X),
    "div i": lambda: one("Div", ([3], T.INT64), ([3], T.INT64)),
    "mod": lambda: one("Mod", ([3], T.INT64), ([3], T.INT64)),
    "pow": lambda: one("Pow", X, s(2).reshape(())),
    "sub c": lambda: one("Sub", s(1).reshape(()), X),
    "max3": lambda: one("Max", [3, 1], [1, 4], [3, 4]),
    "mean": lambda: one("Mean", [3, 1], [1, 4]),
    "sum": lambda: one("Sum", [3, 1], [1, 4]),
    "mvn": lambda: one("MeanVarianceNormalization", X),
    "lpnorm": lambda: one("LpNormalization", X, axis=1),
    "dropout": lambda: one("Dropout", X, outputs="y m"),
    "isinf": lambda: one("IsInf", X),
    "cast": lambda: one("Cast", X, to=T.INT32),
    "gridsample": lambda: one("GridSample", X, [2, 5, 6, 2]),
    "affinegrid": lambda: one("AffineGrid", [2, 2, 3], i(2, 3, 4, 5)),
    "ccp": lambda: one("CenterCropPad", X, i(5, 20), axes=[2, 3]),
    "roialign": lambda: one("RoiAlign", X, [3, 4], ([3], T.INT64), output_height=3, output_width=2),
    "col2im": lambda: one("Col2Im", [1, 8, 20], i(5, 6), i(2, 2)),
    "eyelike": lambda: one("EyeLike", [3, 4]),
    "det": lambda: one("Det", [2, 3, 3]),
    "dft": lambda: one("DFT", [1, 8, 2], None, np.array(1), opset=20),
    "hann": lambda: one("HannWindow", np.array(8)),
    "size": lambda: one("Size", X),
    "shape": lambda: one("Shape", X, start=1, end=-1),
    "cos": lambda: one("ConstantOfShape", i(2, 3)),
    "range": lambda: one("Range", np.array(0), np.array(7), np.array(2)),
    "reverseseq": lambda: one("ReverseSequence", [4, 3, 2], i(1, 2, 3)),
    "bitshift": lambda: one("BitShift", ([3], T.UINT8), ([3], T.UINT8), direction="LEFT"),
    "swish": lambda: one("Swish", X, opset=24),
    "deform": lambda: one("DeformConv", X, f(6, 4, 3, 3), [2, 18, 7, 9], opset=19),
    "maxunpool": lambda: one(
        "MaxUnpool",
        [1, 1, 2, 2],
        i(0, 3, 9, 11).reshape(1, 1, 2, 2),
        kernel_shape=[2, 2],
        strides=[2, 2],
    ),
    "softplus": lambda: one("Softplus", X),
    "softsign": lambda: one("Softsign", X),
    "round": lambda: one("Round", X),
    "nonzero c": lambda: one("NonZero", i(1, 0, 1)),
    "compress": lambda: one("Compress", X, np.array([1, 0, 1], bool), axis=2),
    "compress flat": lambda: one("Compress", X, np.array([0, 1, 1, 1], bool)),
    # sizes that are written to before a tensor gets them: 1 2 3 5; and picked: -1 is 4, then 6
    "scatterE c": lambda: graph(
        [node("ScatterElements", "s i v", "t"), node("Expand", "x t")],
        {"x": [1, 2, 1, 1]},
        ["y"],
        {"s": i(1, 2, 1, 1), "i": i(2, -1), "v": i(3, 5)},
    ),
    "gathere c": lambda: graph(
        [node("GatherElements", "s i", "t"), node("Reshape", "x t")],
        {"x": [2, 12]},
        ["y"],
        {"s": i(6, 1, 4), "i": i(-1, 0)},
    ),
}

# What the reference evaluator refuses or gets wrong, by the formulas of the specification.
SAID = {
    # stride * (n - 1) + output padding + (kernel - 1) * dilation + 1 - pads: what was asked for
    "convt shape": [((2, 3, 18, 22), "float32")],
    # (9 - 1) * 2 + 2 = 18, (11 - 1) * 2 + 2 = 22; 3 channels for each of two groups
    "convt group": [((2, 6, 18, 22), "float32")],
    # SAME: ceil(9 / 2), ceil(11 / 2)
    "maxpool same": [((2, 4, 5, 6), "float32")],
    "resize 10": [((2, 4, 18, 22), "float32")],
    "upsample 9": [((2, 4, 18, 22), "float32")],
    # 9 - 1 + 3 rows, 11 + 2 - 4 columns
    "pad neg": [((2, 4, 11, 9), "float32")],
    "mean": [((3, 4), "float32")],
    # 3 x 2 x 4 x 5 becomes 2 x 4 x 3 x 5
    "matmul fused": [((2, 4, 3, 6), "float32")],
    "roialign": [((3, 4, 3, 2), "float32")],
}


def run(path):
    program = Program(path)
    root = program.build(path, {})
    given = program.default_inputs(path, root).tensors
    made = root(
        *[torch.empty(t.shape, dtype=getattr(torch, t.dtype), device="meta") for t in given]
    )
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.fast  # all cases: each runs another operator's code, in milliseconds
@pytest.mark.parametrize("name", CASES)
def test_sizes_are_those_of_the_specification(name, tmp_path):
    model = CASES[name]()
    made = [
        (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in run(save(model, tmp_path))
    ]
    assert made == (SAID.get(name) or reference(model))
