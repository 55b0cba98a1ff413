"""Operators that are matrix products: linear layers, attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, tensor_of


@operator("Gemm")
def gemm(node: OnnxNode, a: Value, b: Value, c: Value = None) -> Tensor:
    """A product of two matrices and what is added to it: a linear layer where it is one."""
    left, right = tensor_of(a), tensor_of(b)
    added = None if c is None else tensor_of(c)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = left.t() if node.get("transA") else left
    plain = alpha == 1 and (added is None or (beta == 1 and added.dim() == 1))
    if plain and (added is None or added.shape[0] == right.shape[0 if node.get("transB") else 1]):
        return functional.linear(left, right if node.get("transB") else right.t(), added)
    right = right.t() if node.get("transB") else right
    if added is None:
        return torch.mm(left, right) * alpha
    return torch.addmm(added, left, right, beta=beta, alpha=alpha)


@operator("MatMul")
def matmul(node: OnnxNode, a: Value, b: Value, bias: Value = None) -> Tensor:
    """A product of matrices, or of stacks of them; with a bias, a linear layer (`fusing`)."""
    del node
    if bias is not None:
        return functional.linear(tensor_of(a), tensor_of(b).t(), tensor_of(bias))
    return torch.matmul(tensor_of(a), tensor_of(b))


@operator("com.microsoft.FusedMatMul")
def fused_matmul(node: OnnxNode, a: Value, b: Value) -> Tensor:
    """A product of matrices, transposed and scaled on the way."""
    left = _turned(tensor_of(a), batch=node.get("transBatchA"), last=node.get("transA"))
    right = _turned(tensor_of(b), batch=node.get("transBatchB"), last=node.get("transB"))
    made = torch.matmul(left, right)
    return made if node.get("alpha", 1.0) == 1 else made * node.get("alpha")


def _turned(data: Tensor, *, batch: Any, last: Any) -> Tensor:
    """Matrices with their first axis moved behind those of the batch, and transposed."""
    data = data.movedim(0, -2) if batch else data
    return data.transpose(-1, -2) if last else data


@operator("Einsum")
def einsum(node: OnnxNode, *given: Value) -> Tensor:
    """A sum of products over letters."""
    made: Tensor = torch.einsum(node.get("equation", ""), *map(tensor_of, given))
    return made


@operator("Attention")
def attention(
    node: OnnxNode,
    q: Value,
    k: Value,
    v: Value,
    mask: Value = None,
    past_key: Value = None,
    past_value: Value = None,
    length: Value = None,
) -> Any:
    """Scaled dot-product attention of ONNX (version 23), with what earlier calls have kept."""
    del length
    query = _heads(node, tensor_of(q), "q_num_heads")
    key = _heads(node, tensor_of(k), "kv_num_heads")
    value = _heads(node, tensor_of(v), "kv_num_heads")
    if past_key is not None and past_value is not None:
        key = torch.cat([tensor_of(past_key), key], 2)
        value = torch.cat([tensor_of(past_value), value], 2)
    causal = bool(node.get("is_causal"))
    made = functional.scaled_dot_product_attention(
        query, key, value, None if mask is None or causal else tensor_of(mask), is_causal=causal,
        scale=node.get("scale"), enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    if tensor_of(q).dim() == 3:
        made = made.transpose(1, 2).flatten(2)
    scores = torch.matmul(query, key.transpose(-1, -2)) if len(node.outputs) > 3 else None
    return made, key, value, scores


def _heads(node: OnnxNode, data: Tensor, heads: str) -> Tensor:
    """B x H x L x E of what is given so, or as B x L x (H E).

    Raises:
        RequestError: the number of heads is missing or wrong.
    """
    if data.dim() == 4:
        return data
    number = node.get(heads)
    if data.dim() != 3 or not number or data.shape[2] % number:
        raise RequestError(f"{node}: {tuple(data.shape)} cannot be split into {number} heads")
    return data.unflatten(2, (number, -1)).transpose(1, 2)


@operator("Det")
def det(node: OnnxNode, x: Value) -> Tensor:
    """A determinant."""
    del node
    return torch.linalg.det(tensor_of(x))


@operator("DFT")
def dft(node: OnnxNode, x: Value, length: Value = None, axis: Value = None) -> Tensor:
    """A Fourier transform of numbers whose last axis has real and imaginary parts."""
    from cnnscope.models.files.onnx.values import number

    data = tensor_of(x)
    dim = node.get("axis", 1 if axis is None else int(number(axis)))
    points = None if length is None else int(number(length))
    given = torch.view_as_complex(data) if data.shape[-1] == 2 else data.squeeze(-1)
    dim = dim if dim >= 0 else dim + data.dim()
    if node.get("onesided") and not node.get("inverse"):
        return torch.view_as_real(torch.fft.rfft(given, points, dim))
    function = torch.fft.ifft if node.get("inverse") else torch.fft.fft
    return torch.view_as_real(function(given, points, dim))
