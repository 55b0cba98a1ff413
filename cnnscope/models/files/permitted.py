"""The operations that a program from a file may name, and the bounds that each one keeps.

A program names its operations by text, and a stranger chose that text. Torch's registry also holds
operations that write files, map files, change what a tensor points to, or take their results from
arguments; libraries add to it. So nothing is looked up that is not listed here by name and
overload: the operations of the operation table, and those that torch decomposes into them. None of
them has an `out` argument, takes a storage, resizes, or reads or writes anything but its tensors.

What is listed is still given arguments that a stranger chose. Before an operation runs, its device
is the meta device whatever the file says, and whatever multiplies (pieces of a split, time steps of
a recurrent layer, powers and shifts of numbers) is bounded; afterwards every result has to lie on
the meta device and within its own memory.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from cnnscope.errors import RequestError
from cnnscope.text import printable
from cnnscope.tracing.dispatching import DispatchMode

META = torch.device("meta")

# Bounds of one run, so that any file is answered in seconds.
MAX_RANK = 16  # networks that split windows and heads have up to 8
_CODE = "give the code instead, as path/net.py:Net"
MAX_RUN = 2**15  # operations of one run, with those that others are made of: 5 s of tracing
LONG = 2**10  # an axis from this length on counts against ...
MAX_LONG = 2**24  # ... this many units of all results: a receptive field is kept for each one
MAX_ELEMENTS = 2**48  # of one tensor: more than any memory, and products of two stay in 128 bits
_BITS = 64  # numbers of a program are sizes
_SPANS = ("kernel_size", "padding", "dilation")  # what a window is as long as, in pixels

# Each name with its overloads. To add one: it computes from its arguments alone, has a kernel for
# the meta device or is made of such, and what it makes is bounded by what it is given.
_ATEN = """
    __and__:Scalar,Tensor __iand__:Scalar,Tensor __ilshift__:Scalar,Tensor __ior__:Scalar,Tensor
    __irshift__:Scalar,Tensor __ixor__:Scalar,Tensor __lshift__:Scalar,Tensor __or__:Scalar,Tensor
    __rshift__:Scalar,Tensor __xor__:Scalar,Tensor _adaptive_avg_pool2d:default
    _adaptive_avg_pool3d:default _batch_norm_no_update:default _cdist_forward:default
    _conj:default _convolution:default,deprecated _embedding_bag:default
    _embedding_bag_forward_only:default _euclidean_dist:default _fft_c2c:default _fft_c2r:default
    _fft_r2c:default _fused_rms_norm:default _index_put_impl:default _index_put_impl_:default
    _int_mm:default _linalg_det:default _linalg_eigh:default _linalg_slogdet:default
    _linalg_solve_ex:default _linalg_svd:default _local_scalar_dense:default _log_softmax:default
    _native_batch_norm_legit:default,no_stats _native_batch_norm_legit_no_training:default
    _native_multi_head_attention:default _pad_circular:default _pdist_forward:default
    _prelu_kernel:default _reshape_alias:default _safe_softmax:default
    _scaled_dot_product_attention_math:default _scaled_dot_product_efficient_attention:default
    _scaled_dot_product_flash_attention:default
    _scaled_dot_product_flash_attention_for_cpu:default _softmax:default _to_copy:default
    _trilinear:default _unique:default _unique2:default _unsafe_view:default
    _upsample_bicubic2d_aa:default,vec _upsample_bilinear2d_aa:default,vec
    _upsample_nearest_exact1d:default,vec _upsample_nearest_exact2d:default,vec
    _upsample_nearest_exact3d:default,vec _weight_norm:default _weight_norm_interface:default
    abs:default abs_:default absolute:default absolute_:default acos:default acos_:default
    acosh:default acosh_:default adaptive_avg_pool1d:default adaptive_avg_pool2d:default
    adaptive_avg_pool3d:default adaptive_max_pool1d:default adaptive_max_pool2d:default
    adaptive_max_pool3d:default add:Scalar,Tensor add_:Scalar,Tensor addbmm:default
    addbmm_:default addcdiv:default addcdiv_:default addcmul:default addcmul_:default
    addmm:default addmm_:default addmv:default addmv_:default addr:default addr_:default
    adjoint:default affine_grid_generator:default alias:default alias_copy:default
    all:default,dim,dims alpha_dropout:default alpha_dropout_:default amax:default amin:default
    aminmax:default angle:default any:default,dim,dims arange:default,start,start_step
    arccos:default arccos_:default arccosh:default arccosh_:default arcsin:default arcsin_:default
    arcsinh:default arcsinh_:default arctan:default arctan2:default arctan2_:default
    arctan_:default arctanh:default arctanh_:default argmax:default argmin:default
    argsort:default,stable argwhere:default as_strided:default as_strided_copy:default
    as_strided_scatter:default asin:default asin_:default asinh:default asinh_:default
    atan:default atan2:default atan2_:default atan_:default atanh:default atanh_:default
    atleast_1d:Sequence,default atleast_2d:Sequence,default atleast_3d:Sequence,default
    avg_pool1d:default avg_pool2d:default avg_pool3d:default baddbmm:default baddbmm_:default
    batch_norm:default bernoulli:Tensor,default,p bernoulli_:Tensor,float bilinear:default
    binary_cross_entropy:default binary_cross_entropy_with_logits:default
    bitwise_and:Scalar,Scalar_Tensor,Tensor bitwise_and_:Scalar,Tensor
    bitwise_left_shift:Scalar_Tensor,Tensor,Tensor_Scalar bitwise_left_shift_:Tensor,Tensor_Scalar
    bitwise_not:default bitwise_not_:default bitwise_or:Scalar,Scalar_Tensor,Tensor
    bitwise_or_:Scalar,Tensor bitwise_right_shift:Scalar_Tensor,Tensor,Tensor_Scalar
    bitwise_right_shift_:Tensor,Tensor_Scalar bitwise_xor:Scalar,Scalar_Tensor,Tensor
    bitwise_xor_:Scalar,Tensor block_diag:default bmm:default broadcast_tensors:default
    broadcast_to:default bucketize:Scalar,Tensor cat:default cdist:default ceil:default
    ceil_:default celu:default celu_:default channel_shuffle:default chunk:default
    clamp:Tensor,default clamp_:Tensor,default clamp_max:Tensor,default clamp_max_:Tensor,default
    clamp_min:Tensor,default clamp_min_:Tensor,default clip:Tensor,default clip_:Tensor,default
    clone:default col2im:default complex:default concat:default concatenate:default conj:default
    conj_physical:default conj_physical_:default constant_pad_nd:default contiguous:default
    conv1d:default,padding conv2d:default,padding conv3d:default,padding conv_tbc:default
    conv_transpose1d:default conv_transpose2d:input conv_transpose3d:input convolution:default
    copy:default copy_:default copysign:Scalar,Tensor copysign_:Scalar,Tensor corrcoef:default
    cos:default cos_:default cosh:default cosh_:default cosine_similarity:default
    count_nonzero:default,dim_IntList cov:default cross:default cross_entropy_loss:default
    cummax:default cummin:default cumprod:default cumprod_:default cumsum:default cumsum_:default
    deg2rad:default deg2rad_:default det:default detach:default detach_:default
    detach_copy:default diag:default diag_embed:default diagflat:default diagonal:default
    diagonal_copy:default diagonal_scatter:default diff:default digamma:default digamma_:default
    dist:default div:Scalar,Scalar_mode,Tensor,Tensor_mode
    div_:Scalar,Scalar_mode,Tensor,Tensor_mode divide:Scalar,Scalar_mode,Tensor,Tensor_mode
    divide_:Scalar,Scalar_mode,Tensor,Tensor_mode dot:default dropout:default dropout_:default
    dsplit:array,int dstack:default einsum:default elu:default elu_:default embedding:default
    embedding_bag:default,padding_idx empty:memory_format empty_like:default empty_strided:default
    eq:Scalar,Tensor eq_:Scalar,Tensor equal:default erf:default erf_:default erfc:default
    erfc_:default erfinv:default erfinv_:default exp:default exp2:default exp2_:default
    exp_:default expand:default expand_as:default expand_copy:default expm1:default expm1_:default
    exponential_:default eye:default,m fake_quantize_per_channel_affine:default
    fake_quantize_per_tensor_affine:default,tensor_qparams feature_alpha_dropout:default
    feature_alpha_dropout_:default feature_dropout:default feature_dropout_:default
    fft_fft:default fft_fft2:default fft_fftfreq:default fft_fftn:default fft_fftshift:default
    fft_hfft:default fft_ifft:default fft_ifft2:default fft_ifftn:default fft_ifftshift:default
    fft_ihfft:default fft_irfft:default fft_irfft2:default fft_irfftn:default fft_rfft:default
    fft_rfft2:default fft_rfftfreq:default fft_rfftn:default fill:Scalar,Tensor
    fill_:Scalar,Tensor fill_diagonal_:default fix:default fix_:default flatten:using_ints
    flip:default fliplr:default flipud:default float_power:Scalar,Tensor_Scalar,Tensor_Tensor
    float_power_:Scalar,Tensor floor:default floor_:default floor_divide:Scalar,default
    floor_divide_:Scalar,Tensor fmax:default fmin:default fmod:Scalar,Tensor fmod_:Scalar,Tensor
    frac:default frac_:default fractional_max_pool2d:default fractional_max_pool3d:default
    frobenius_norm:dim full:default full_like:default gather:default gcd:default gcd_:default
    ge:Scalar,Tensor ge_:Scalar,Tensor gelu:default gelu_:default ger:default glu:default
    greater:Scalar,Tensor greater_:Scalar,Tensor greater_equal:Scalar,Tensor
    greater_equal_:Scalar,Tensor grid_sampler:default grid_sampler_2d:default
    grid_sampler_3d:default group_norm:default gru:input gru_cell:default gt:Scalar,Tensor
    gt_:Scalar,Tensor hardshrink:default hardsigmoid:default hardsigmoid_:default
    hardswish:default hardswish_:default hardtanh:default hardtanh_:default heaviside:default
    heaviside_:default histc:default hsplit:array,int hstack:default huber_loss:default
    hypot:default hypot_:default i0:default i0_:default im2col:default imag:default index:Tensor
    index_add:default index_add_:default index_copy:default index_copy_:default
    index_fill:int_Scalar,int_Tensor index_fill_:int_Scalar,int_Tensor index_put:default
    index_put_:default index_reduce:default index_reduce_:default index_select:default
    inner:default instance_norm:default inverse:default is_nonzero:default isclose:default
    isfinite:default isin:Scalar_Tensor,Tensor_Scalar,Tensor_Tensor isinf:default isnan:default
    isneginf:default isposinf:default isreal:default istft:default item:default kl_div:default
    kron:default kthvalue:default l1_loss:default layer_norm:default ldexp:Tensor ldexp_:default
    le:Scalar,Tensor le_:Scalar,Tensor leaky_relu:default leaky_relu_:default lerp:Scalar,Tensor
    lerp_:Scalar,Tensor less:Scalar,Tensor less_:Scalar,Tensor less_equal:Scalar,Tensor
    less_equal_:Scalar,Tensor lgamma:default lgamma_:default lift_fresh:default
    lift_fresh_copy:default linalg_cholesky:default linalg_cholesky_ex:default
    linalg_cross:default linalg_det:default linalg_diagonal:default linalg_eigh:default
    linalg_inv:default linalg_inv_ex:default linalg_lu:default linalg_lu_factor_ex:default
    linalg_matmul:default linalg_matrix_exp:default linalg_matrix_norm:default,str_ord
    linalg_matrix_power:default linalg_multi_dot:default linalg_norm:default,ord_str
    linalg_pinv:atol_rtol_float,atol_rtol_tensor,default,rcond_tensor linalg_qr:default
    linalg_slogdet:default linalg_solve:default linalg_solve_ex:default
    linalg_solve_triangular:default linalg_svd:default linalg_svdvals:default
    linalg_vecdot:default linalg_vector_norm:default linear:default
    linspace:Scalar_Tensor,Tensor_Scalar,Tensor_Tensor,default log:default log10:default
    log10_:default log1p:default log1p_:default log2:default log2_:default log_:default
    log_sigmoid:default log_sigmoid_forward:default log_softmax:int logaddexp:default
    logaddexp2:default logcumsumexp:default logdet:default logical_and:default
    logical_and_:default logical_not:default logical_not_:default logical_or:default
    logical_or_:default logical_xor:default logical_xor_:default logit:default logit_:default
    logspace:Scalar_Tensor,Tensor_Scalar,Tensor_Tensor,default logsumexp:default lstm:input
    lstm_cell:default lt:Scalar,Tensor lt_:Scalar,Tensor mH:default mT:default
    masked_fill:Scalar,Tensor masked_fill_:Scalar,Tensor masked_scatter:default
    masked_scatter_:default masked_select:default matmul:default matrix_H:default
    matrix_exp:default matrix_power:default max:default,dim,other max_pool1d:default
    max_pool1d_with_indices:default max_pool2d:default max_pool2d_with_indices:default
    max_pool3d:default max_pool3d_with_indices:default max_unpool2d:default max_unpool3d:default
    maximum:default mean:default,dim median:default,dim meshgrid:default,indexing
    min:default,dim,other minimum:default mish:default mish_:default mm:default
    moveaxis:int,intlist movedim:int,intlist mse_loss:default msort:default mul:Scalar,Tensor
    mul_:Scalar,Tensor multinomial:default multiply:Scalar,Tensor multiply_:Scalar,Tensor
    mv:default mvlgamma:default mvlgamma_:default nan_to_num:default nan_to_num_:default
    nanmean:default nanmedian:default,dim nanquantile:default,scalar nansum:default narrow:default
    native_batch_norm:default native_channel_shuffle:default native_dropout:default
    native_group_norm:default native_layer_norm:default ne:Scalar,Tensor ne_:Scalar,Tensor
    neg:default neg_:default negative:default negative_:default new_empty:default
    new_empty_strided:default new_full:default new_ones:default new_zeros:default
    nextafter:default nextafter_:default nll_loss:default nll_loss2d_forward:default
    nll_loss_forward:default nll_loss_nd:default nonzero:default nonzero_static:default
    norm:Scalar,ScalarOpt_dim,ScalarOpt_dim_dtype,ScalarOpt_dtype norm_except_dim:default
    normal:Tensor_Tensor,Tensor_float,float_Tensor,float_float normal_:default
    not_equal:Scalar,Tensor not_equal_:Scalar,Tensor nuclear_norm:default,dim numel:default
    numpy_T:default one_hot:default ones:default ones_like:default outer:default pad:default
    pad_sequence:default pairwise_distance:default pdist:default permute:default
    permute_copy:default pixel_shuffle:default pixel_unshuffle:default polar:default
    polygamma:default polygamma_:default positive:default pow:Scalar,Tensor_Scalar,Tensor_Tensor
    pow_:Scalar,Tensor prelu:default prod:default,dim_int quantile:default,scalar rad2deg:default
    rad2deg_:default rand:default rand_like:default randint:default,low
    randint_like:Tensor,default,low_dtype randn:default randn_like:default random_:default,from,to
    randperm:default ravel:default real:default reciprocal:default reciprocal_:default
    reflection_pad1d:default reflection_pad2d:default reflection_pad3d:default relu:default
    relu6:default relu6_:default relu_:default remainder:Scalar,Scalar_Tensor,Tensor
    remainder_:Scalar,Tensor renorm:default renorm_:default repeat:default
    repeat_interleave:Tensor,self_int replication_pad1d:default replication_pad2d:default
    replication_pad3d:default reshape:default reshape_as:default resolve_conj:default
    resolve_neg:default rms_norm:default rnn_relu:input rnn_relu_cell:default rnn_tanh:input
    rnn_tanh_cell:default roll:default rot90:default round:decimals,default
    round_:decimals,default rrelu:default rrelu_:default rrelu_with_noise:default
    rrelu_with_noise_:default rsqrt:default rsqrt_:default rsub:Scalar,Tensor
    scalar_tensor:default scaled_dot_product_attention:default
    scatter:reduce,src,value,value_reduce scatter_:reduce,src,value,value_reduce
    scatter_add:default scatter_add_:default scatter_reduce:two scatter_reduce_:two
    searchsorted:Scalar,Tensor select:int select_copy:int select_scatter:default selu:default
    selu_:default sgn:default sgn_:default sigmoid:default sigmoid_:default sign:default
    sign_:default signbit:default silu:default silu_:default sin:default sin_:default sinc:default
    sinc_:default sinh:default sinh_:default slice:Tensor slice_copy:Tensor slice_scatter:default
    slogdet:default smooth_l1_loss:default softmax:int softplus:default softshrink:default
    sort:default,stable special_digamma:default special_entr:default special_erf:default
    special_erfc:default special_erfinv:default special_exp2:default special_expit:default
    special_expm1:default special_gammaln:default special_i0:default special_i1:default
    special_log1p:default special_log_ndtr:default special_log_softmax:default
    special_logit:default special_logsumexp:default special_ndtr:default special_ndtri:default
    special_sinc:default special_softmax:default special_xlogy:default,other_scalar,self_scalar
    split:Tensor,default,sizes split_copy:Tensor split_with_sizes:default
    split_with_sizes_copy:default sqrt:default sqrt_:default square:default square_:default
    squeeze:default,dim,dims squeeze_:default,dim,dims squeeze_copy:default,dim,dims stack:default
    std:correction,default,dim std_mean:correction,default,dim stft:center,default
    sub:Scalar,Tensor sub_:Scalar,Tensor subtract:Scalar,Tensor subtract_:Scalar,Tensor
    sum:default,dim_IntList sum_to_size:default swapaxes:default swapaxes_:default
    swapdims:default swapdims_:default sym_is_contiguous:default sym_numel:default
    sym_size:default,int sym_storage_offset:default sym_stride:default,int t_:default
    t_copy:default take:default take_along_dim:default tan:default tan_:default tanh:default
    tanh_:default tensor_split:indices,sections tensordot:default threshold:default
    threshold_:default tile:default to:device,dtype,dtype_layout,other topk:default trace:default
    transpose:int transpose_:default transpose_copy:int trapezoid:dx,x triangular_solve:default
    tril:default tril_:default tril_indices:default triu:default triu_:default
    triu_indices:default true_divide:Scalar,Tensor true_divide_:Scalar,Tensor trunc:default
    trunc_:default type_as:default unbind:int unbind_copy:int unflatten:int unfold:default
    unfold_copy:default uniform_:default unique_consecutive:default unique_dim:default
    unsafe_chunk:default unsafe_split:Tensor unsqueeze:default unsqueeze_:default
    unsqueeze_copy:default upsample_bicubic2d:default,vec upsample_bilinear2d:default,vec
    upsample_linear1d:default,vec upsample_nearest1d:default,vec upsample_nearest2d:default,vec
    upsample_nearest3d:default,vec upsample_trilinear3d:default,vec var:correction,default,dim
    var_mean:correction,default,dim vdot:default view:default,dtype view_as:default
    view_as_complex:default view_as_complex_copy:default view_as_real:default
    view_as_real_copy:default view_copy:default,dtype vsplit:array,int vstack:default
    where:Scalar,ScalarOther,ScalarSelf,default,self xlogy:Scalar_Other,Scalar_Self,Tensor
    xlogy_:Scalar_Other,Tensor zero_:default zeros:default zeros_like:default
"""
_TORCHVISION = (
    "nms.default roi_align.default roi_pool.default ps_roi_align.default ps_roi_pool.default "
    "deform_conv2d.default"
)

# Of those, the ones that may run on the CPU with values, where a program looks at its data (see
# `values.py`): arithmetic per element, views, selections and small reductions. What they make is no
# larger than what meta told, or bounded there, and their kernels check every index.
COMPUTES = frozenset(
    "_local_scalar_dense _to_copy _unsafe_view abs add alias all amax amin any arange argmax "
    "argmin argsort bitwise_and bitwise_not bitwise_or bitwise_xor cat ceil clamp clamp_max "
    "clamp_min clone copy cumsum detach detach_ div eq exp expand eye fill flip floor "
    "floor_divide full full_like gather ge gt index index_select isfinite isnan le lift_fresh "
    "lift_fresh_copy linspace log logical_and logical_not logical_or lt masked_fill max maximum "
    "mean min minimum mul ne neg new_full new_ones new_zeros nms nonzero ones ones_like permute "
    "pow reciprocal relu remainder repeat round rsqrt rsub scalar_tensor select sigmoid sign slice "
    "sort split split_with_sizes sqrt squeeze stack sub sum t tanh topk transpose tril triu trunc "
    "unbind unsqueeze view where zeros zeros_like __and__ __or__ __xor__ "
    "add_ sub_ mul_ div_ fill_ copy_ zero_ clamp_ masked_fill_ index_put index_put_".split()
)


def _listed() -> frozenset[str]:
    found = {f"torchvision.{name}" for name in _TORCHVISION.split()}
    for item in _ATEN.split():
        name, _, overloads = item.partition(":")
        found |= {f"aten.{name}.{overload}" for overload in overloads.split(",")}
    return frozenset(found)


OPERATIONS = _listed()


def function(target: str) -> Callable[..., Any]:
    """Return the function of a program's target: a listed operation, or arithmetic on sizes.

    Raises:
        RequestError: it is not listed, or this torch does not have it.
    """
    owner, _, name = target.rpartition(".")
    if name in _ARITHMETIC.get(owner, ()):
        return _arithmetic(owner, name)
    listed = target.removeprefix("torch.ops.")
    if listed == target or listed not in OPERATIONS:
        raise RequestError(
            f"the program uses {printable(target)}, which is not among the "
            "operations that a file may use (those of networks, and of torchvision's detectors): "
            f"refused, and nothing was run; {_CODE}"
        )
    found = _registered(*listed.split("."))
    if not isinstance(found, torch._ops.OpOverload):
        raise RequestError(
            f"the program uses {printable(target)}, which is no operation of torch "
            f"{torch.__version__}: export it again with this torch"
        )
    return found


def _name(operation: Any) -> str:
    """The name of an operation as the file has it, without its library and overload."""
    return str(operation).split(".")[1]


def _registered(namespace: str, name: str, overload: str) -> Any:
    if namespace == "torchvision":
        importlib.import_module("torchvision")  # registers its operations
    packet = getattr(getattr(torch.ops, namespace), name, None)
    return getattr(packet, overload, None)


# ----------------------------------------------------------------------------- arguments


def arguments(operation: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operation with devices, layouts and pinned memory set to the only choice.

    Raises:
        ValueError: an argument that the operation does not have, or a plain number where it takes
            a dtype or memory format (torch would take it for one by its internal number).
    """
    known = {argument.name: _kind(argument) for argument in operation._schema.arguments}
    unknown = given.keys() - known.keys()
    if unknown:
        raise ValueError(f"{operation} has no argument {min(unknown)}")
    found = {name: _checked(operation, name, known[name], value) for name, value in given.items()}
    if not any("Tensor" in kind for kind in known.values()):  # makes its result from nothing
        found |= {name: META for name, kind in known.items() if "Device" in kind}
    return found


def _kind(argument: Any) -> str:
    """The type of an argument, as the schema's text has it (a dtype is an int to `type`)."""
    return str(getattr(argument, "real_type", argument.type))


_ENUMS: dict[str, type] = {"ScalarType": torch.dtype, "MemoryFormat": torch.memory_format}


def _checked(operation: Any, name: str, kind: str, value: Any) -> Any:
    if "Device" in kind:
        return META
    if name == "pin_memory":
        return False
    if value is None:
        return None
    if "Layout" in kind:
        return torch.strided
    for enum, expected in _ENUMS.items():
        if enum in kind and not isinstance(value, expected):
            raise ValueError(f"{operation} takes a {enum} as {name}")
    if "Generator" in kind:
        raise ValueError(f"{operation} takes no generator from a file")
    return value


# ----------------------------------------------------------------------------- arithmetic

# Arithmetic on sizes; nothing else of Python is reachable from a program.
_ARITHMETIC: dict[str, frozenset[str]] = {
    "_operator": frozenset(
        "add sub mul truediv floordiv mod pow neg pos abs and_ or_ not_ lt le eq ne ge gt getitem "
        "is_ is_not lshift rshift xor".split()
    ),
    "math": frozenset("ceil floor sqrt trunc log2 pow".split()),
    "torch": frozenset(
        "sym_max sym_min sym_int sym_float sym_not sym_ite sym_sqrt sym_sum".split()
    ),
}
_LIBRARIES: dict[str, Any] = {"_operator": operator, "math": math, "torch": torch}


@functools.cache
def _arithmetic(owner: str, name: str) -> Callable[..., Any]:
    """A function on numbers that stays a function on numbers of a size's length."""
    plain = getattr(_LIBRARIES[owner], name)

    @functools.wraps(plain)
    def bounded(*given: Any) -> Any:
        what = f"{owner}.{name}"
        if name == "getitem":
            return _item(*given)
        numbers = given[0] if name == "sym_sum" and isinstance(given[0], list) else given
        for number in numbers:
            _require_size(what, number)
        if name in ("pow", "lshift", "rshift"):
            _require_small_power(what, *given)
        result = plain(*given)
        _require_size(what, result)
        return result

    return bounded


def _item(items: Any, index: Any) -> Any:
    """An element of a list of results."""
    if not isinstance(items, (list, tuple)) or type(index) is not int:
        raise RequestError(
            "the program uses _operator.getitem on what is no list: refused; " + _CODE
        )
    return items[index]


def _require_size(what: str, value: Any) -> None:
    """Numbers of a program are sizes and factors: no text, no list, no number of many digits."""
    if value is None or type(value) in (bool, float):
        return
    if type(value) is not int:
        raise RequestError(f"the program uses {what} on a {type(value).__name__}: refused; {_CODE}")
    if value.bit_length() > _BITS:
        raise RequestError(
            f"the program uses {what} with a number of {value.bit_length():,} bits, which is no "
            f"size: refused; {_CODE}"
        )


def _require_small_power(what: str, base: Any, exponent: Any) -> None:
    """Powers and shifts are refused by the length of their result, before it exists."""
    whole = type(base) in (int, bool) and type(exponent) in (int, bool)
    if not whole or exponent <= 0 or (base in (-1, 0, 1) and "pow" in what):
        return
    bits = base.bit_length() * exponent if "pow" in what else exponent
    if bits > 2 * _BITS:
        raise RequestError(
            f"the program uses {what} with {base} and {exponent}, whose result is no "
            f"size: refused; {_CODE}"
        )


# ------------------------------------------------------------------------------- running


class Limits(DispatchMode):
    """Limits of one run of a program, and how much of each is used.

    As a mode it counts the operations that others are made of, among them the time steps of
    recurrent layers, which torch unrolls on the meta device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.long = 0  # units along long axes, over all results

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation within the limits."""
        self.operations += 1
        name = func._schema.name.partition("::")[2]
        if name in _PIECES:  # time steps are made by one of these
            names = (argument.name for argument in func._schema.arguments)
            given = dict(zip(names, args, strict=False)) | kwargs
            _require(func, _PIECES[name](given), MAX_RUN, "pieces of one tensor")
        _require(func, self.operations, MAX_RUN, "operations")
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            # numbers that an operation was given are made into tensors of the CPU
            if isinstance(tensor, Tensor) and not tensor.is_meta and tensor.numel() > 1:
                raise RequestError(
                    f"{_name(func)} made a tensor that is not on the meta device: refused; {_CODE}"
                )
        return result

    def run(self, operation: Any, given: Mapping[str, Any], results: int) -> Any:
        """Run a listed operation that has a name for so many results.

        Raises:
            RequestError: it would do more than a program may, or a result is not where it may be.
        """
        self._before(operation, given, results)
        result = operation(**given)
        self._after(operation, result)
        return result

    def spend(self, steps: int) -> None:
        """Count steps that are no operations of torch's: rounds of loops, arithmetic in them.

        Raises:
            RequestError: there are more than a program may have.
        """
        self.operations += steps
        if self.operations > MAX_RUN:
            raise RequestError(
                "the program is too large for a file from elsewhere: its loops and branches run "
                f"more than {MAX_RUN:,} operations; {_CODE}"
            )

    def _before(self, operation: Any, given: Mapping[str, Any], results: int) -> None:
        name = operation._schema.name.partition("::")[2]
        if name.startswith("as_strided"):
            _require_inside(operation, given)
        lists = [value for value in given.values() if isinstance(value, (list, tuple))]
        self.operations += sum(isinstance(v, Tensor) for value in lists for v in value)
        for span in map(given.get, _SPANS):  # a window and its padding may leave a small result
            numbers = span if isinstance(span, (list, tuple)) else (span,)
            self.long += sum(n for n in numbers if isinstance(n, int) and n >= LONG)
        pieces = _PIECES[name](given) if name in _PIECES else 0
        if pieces > results:
            raise RequestError(
                f"the program uses {_name(operation)} for {pieces:,} pieces and names "
                f"{results:,} of them: refused; {_CODE}"
            )

    def _after(self, operation: Any, result: Any) -> None:
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, Tensor):
                _require_meta(operation, tensor)
                self.long += sum(n for n in tensor.shape if n >= LONG)
        _require(operation, self.long, MAX_LONG, "units along its longest axes, over all results")


def running() -> list[Limits]:
    """Limits of the runs that are going on, outermost first."""
    return [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, Limits)]


@contextlib.contextmanager
def limits_alone() -> Iterator[None]:
    """Run what no other dispatch mode sees: no recorder, and no counter of another library."""
    limits = running()
    with _disable_current_modes(), contextlib.ExitStack() as stack:
        for one in limits:
            stack.enter_context(one)
        yield


def _require(operation: Any, found: Any, limit: int, what: str) -> None:
    if isinstance(found, int) and found > limit:
        raise RequestError(
            f"the program is too large for a file from elsewhere: at {_name(operation)} it has "
            f"{found:,} {what}; the limit is {limit:,}; {_CODE}"
        )


def _require_meta(operation: Any, tensor: Tensor) -> None:
    """A result lies on the meta device, is made of strides, and stays within its memory."""
    if not tensor.is_meta or tensor.layout is not torch.strided:
        raise RequestError(
            f"{_name(operation)} made a tensor that is not on the meta device: refused; {_CODE}"
        )
    _require(operation, tensor.dim(), MAX_RANK, "dimensions of one tensor")
    _require(operation, tensor.numel(), MAX_ELEMENTS, "elements of one tensor")
    last = tensor.storage_offset()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if not size:
            return
        last += (size - 1) * stride
    if (last + 1) * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise RequestError(
            f"{_name(operation)} made a view beyond the memory that it views: refused; {_CODE}"
        )


def _require_inside(operation: Any, given: Mapping[str, Any]) -> None:
    """A view by bare geometry stays within the memory of its base, before it is made."""
    base, sizes, strides = given.get("self"), given.get("size"), given.get("stride")
    if not isinstance(base, Tensor) or not isinstance(sizes, list) or not isinstance(strides, list):
        return  # torch will say
    last = given.get("storage_offset") or 0
    last += sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
    if all(sizes) and (last + 1) * base.element_size() > base.untyped_storage().nbytes():
        raise RequestError(
            f"{_name(operation)} made a view beyond the memory that it views: refused; {_CODE}"
        )


def _size(given: Mapping[str, Any]) -> int:
    """The size of the dimension that a split is along; 0 where there is none (torch will say)."""
    tensor, dim = given.get("self"), given.get("dim", 0)
    if not isinstance(tensor, Tensor) or type(dim) is not int:
        return 0
    return tensor.shape[dim] if -tensor.dim() <= dim < tensor.dim() else 0


def _by_length(given: Mapping[str, Any]) -> int:
    """Pieces of a split into parts of one length, or of the lengths of a list."""
    length = given.get("split_size", given.get("split_sizes"))
    if isinstance(length, list):
        return len(length)
    return -(-_size(given) // length) if isinstance(length, int) and length > 0 else 0


def _by_count(given: Mapping[str, Any]) -> int:
    """Pieces of a chunk, which are never more than asked for nor than there are positions."""
    chunks, size = given.get("chunks"), _size(given)
    if not isinstance(chunks, int) or chunks < 1 or not size:
        return 0
    return -(-size // -(-size // chunks))


def _sections(given: Mapping[str, Any]) -> int:
    found = given.get("sections", given.get("indices"))
    if isinstance(found, list):
        return len(found) + 1
    return found if isinstance(found, int) else 0


_PIECES: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "unbind": _size,
    "unbind_copy": _size,
    "split": _by_length,
    "unsafe_split": _by_length,
    "split_copy": _by_length,
    "split_with_sizes": _by_length,
    "split_with_sizes_copy": _by_length,
    "chunk": _by_count,
    "unsafe_chunk": _by_count,
    "tensor_split": _sections,
    "hsplit": _sections,
    "vsplit": _sections,
    "dsplit": _sections,
}
