"""No arithmetic: views, copies, selections, and data that is made from nothing."""

from cnnscope.ops.entry import Family, Kind, each
from cnnscope.ops.fields import indexing, rules

for _family, _names, _rule in (
    (
        Family.VIEW,
        "view _unsafe_view reshape _reshape_alias flatten unflatten view_copy",
        rules.view,
    ),
    (Family.PERMUTE, "permute permute_copy", rules.permute),
    (Family.OTHER, "transpose t transpose_copy t_copy", rules.permute),
    (Family.OTHER, "expand expand_as expand_copy", rules.expand),
    (Family.OTHER, "repeat", rules.repeat),
    (Family.SQUEEZE, "squeeze squeeze_copy", rules.squeeze),
    (Family.SQUEEZE, "unsqueeze unsqueeze_copy", rules.unsqueeze),
    (Family.SLICE, "slice slice_copy", rules.slice_),
    (Family.SLICE, "narrow narrow_copy", rules.narrow),
    (Family.SELECT, "select select_copy", rules.select),
    (
        Family.SPLIT,
        "split split_with_sizes unsafe_split chunk unsafe_chunk split_copy split_with_sizes_copy",
        rules.split,
    ),
    (Family.SPLIT, "unbind unbind_copy", rules.unbind),
    (Family.CONCATENATE, "cat concat quantized.cat quantized.cat_relu", rules.concatenate),
    (Family.STACK, "stack", rules.stack),
    (
        Family.COPY,
        "clone _to_copy contiguous alias detach lift_fresh lift_fresh_copy tril triu resolve_conj "
        "resolve_neg alias_copy detach_copy",
        rules.same,
    ),
    (Family.OTHER, "complex real imag _conj _conj_physical conj_physical", rules.elementwise),
    (Family.OTHER, "view_as_real", rules.view_as_real),
    (Family.OTHER, "view_as_complex", rules.view_as_complex),
    (Family.OTHER, "copy", rules.copied),
    (Family.OTHER, "as_strided", rules.restrided),
    (Family.PAD, "constant_pad_nd", rules.pad),
    (
        Family.PAD,
        "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d _pad_circular",
        rules.border,
    ),
    (Family.ROLL, "roll", rules.roll),
    (Family.FLIP, "flip", rules.flip),
    (Family.PIXEL_SHUFFLE, "pixel_shuffle", rules.pixel_shuffle),
    (Family.OTHER, "pixel_unshuffle", rules.pixel_unshuffle),
    (Family.OTHER, "channel_shuffle native_channel_shuffle", rules.channel_shuffle),
    (Family.LOOKUP, "index _unsafe_index", indexing.index),
    (Family.LOOKUP, "index_select", indexing.index_select),
    (Family.LOOKUP, "embedding", indexing.embedding),
    (Family.LOOKUP, "gather", indexing.gather),
    (Family.OTHER, "index_put _index_put_impl", indexing.index_put),
    (Family.OTHER, "slice_scatter", indexing.slice_scatter),
    (Family.OTHER, "select_scatter", indexing.select_scatter),
    (Family.OTHER, "max_unpool2d max_unpool3d", indexing.unpooled),
    (Family.OTHER, "rot90", rules.rotated),
    (Family.OTHER, "im2col", indexing.unfold_windows),
    (Family.OTHER, "col2im", indexing.fold_windows),
    (Family.OTHER, "unfold unfold_copy", indexing.unfold_dim),
    (Family.OTHER, "cnnscope.window", indexing.window_of),
    (Family.OTHER, "cnnscope.write_window", indexing.write_window),
):
    each(Kind.REARRANGE, _names, _rule, _family)
each(
    Kind.REARRANGE,
    "dropout alpha_dropout feature_dropout quantized.dropout",
    rules.same,
    Family.DROPOUT,
    random=True,
)
each(Kind.REARRANGE, "take take_along_dim", family=Family.LOOKUP)
each(  # without a rule: where their results come from is not followed
    Kind.REARRANGE,
    "numpy_T mT adjoint movedim as_strided_scatter diagonal hstack vstack pad tile "
    "repeat_interleave "
    "masked_select nonzero nonzero_numpy "
    "scatter index_copy index_fill "
    "masked_scatter diag diag_embed as_strided_copy diagonal_copy diagonal_scatter block_diag "
    "put nonzero_static lu_unpack resize_as _chunk_cat _unsafe_masked_index "
    "unfold_backward _unsafe_masked_index_put_accumulate _linalg_check_errors _assert_async "
    "_functional_assert_async _assert_tensor_metadata _pack_padded_sequence _to_sparse _to_dense "
    "to_mkldnn argwhere int_repr "
    "_local_scalar_dense item is_nonzero equal resize set is_same_size _has_same_storage_numel "
    "profiler._record_function_enter_new profiler._record_function_exit",
)
each(
    Kind.CREATE,
    "zeros zeros_like new_zeros ones ones_like new_ones full full_like new_full fill zero arange "
    "linspace logspace eye scalar_tensor tensor tril_indices triu_indices",
    rules.constant,
)
each(
    Kind.CREATE,
    "empty empty_strided empty_like new_empty new_empty_strided",
    rules.constant,
    Family.EMPTY,
)
each(Kind.CREATE, "empty_permuted _efficientzerotensor", family=Family.EMPTY)
each(
    Kind.CREATE,
    "rand randn rand_like randn_like randint randperm uniform",
    rules.constant,
    random=True,
)
each(
    Kind.CREATE,
    "normal bernoulli cauchy exponential geometric log_normal random poisson binomial "
    "_standard_gamma _sample_dirichlet multinomial randint_like",
    random=True,
)
each(Kind.CREATE, "meshgrid one_hot _histogramdd_bin_edges")
