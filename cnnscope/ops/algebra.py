"""Dense linear algebra: decompositions and solvers, by the sizes of matrices."""

from collections.abc import Callable

from cnnscope.ops import factorizations
from cnnscope.ops.entry import Factors, Family, per_output, register_steps
from cnnscope.ops.operation import Op


def _decomposition(label: str, names: str, flops: Callable[[Op, int, int], int], how: str) -> None:
    """Register a decomposition by its operations for a matrix of (rows, columns).

    They are element operations and not MACs: MACs are of products of matrices alone.
    """

    @register_steps(Family.OTHER, label, names, how=how)
    def _(op: Op) -> tuple[Factors, ...]:
        *batch, rows, columns = op.first
        return ({"matrices": tuple(batch), "operations of each": flops(op, rows, columns)},)


def _read(op: Op, *positions: int) -> bool:
    """Return True if outputs are read: torch also computes vectors that the model does not use."""
    wanted = [op.record.outputs[position] for position in positions]
    return any(t in op.trace.index.readers or t in op.trace.outputs for t in wanted)


def _right(op: Op, name: str) -> int:
    """Number of right-hand sides of a system: a vector is one."""
    shape, matrix = op.shape(name), op.first
    return shape[-1] if len(shape) >= len(matrix) else 1


_decomposition(
    "LU",
    "linalg_lu linalg_lu_factor_ex _linalg_det _linalg_slogdet",
    lambda _, m, n: factorizations.lu(m, n),
    "2/3 n^3",
)
_decomposition(
    "Cholesky",
    "linalg_cholesky_ex linalg_ldl_factor_ex",
    lambda _, m, __: factorizations.cholesky(m),
    "n^3/3",
)
_decomposition(
    "inverse", "linalg_inv_ex", lambda _, m, __: factorizations.inverse(m), "LU, 2 n^3 in all"
)
_decomposition(
    "inverse",
    "cholesky_inverse",
    lambda _, m, __: 2 * factorizations.cholesky(m),
    "2/3 n^3",
)
_decomposition(
    "solve",
    "_linalg_solve_ex",
    lambda op, m, _: factorizations.lu(m, m) + 2 * factorizations.triangular(m, _right(op, "B")),
    "LU 2/3 n^3, and 2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "linalg_lu_solve linalg_ldl_solve",
    lambda op, m, _: 2 * factorizations.triangular(m, _right(op, "B")),
    "2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "cholesky_solve",
    lambda _, m, n: 2 * factorizations.triangular(m, n),
    "2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "linalg_solve_triangular",
    lambda op, m, _: factorizations.triangular(m, _right(op, "B")),
    "n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "triangular_solve",
    lambda _, m, n: factorizations.triangular(m, n),
    "n^2 for each right-hand side",
)
_decomposition(
    "QR",
    "linalg_qr",
    lambda op, m, n: factorizations.qr(m, n, explicit=op.get("mode", "reduced") != "r"),
    "2 n^2 (m - n/3), and as many for Q",
)
_decomposition(
    "QR", "geqrf", lambda _, m, n: factorizations.qr(m, n, explicit=False), "2 n^2 (m - n/3)"
)
_decomposition(
    "QR",
    "linalg_householder_product",
    lambda _, m, n: factorizations.qr(m, n, explicit=False),
    "2 n^2 (m - n/3)",
)


@register_steps(Family.OTHER, "QR", "ormqr", how="4 m n k - 2 n k^2")
def multiply_by_q(op: Op) -> tuple[Factors, ...]:
    """A matrix (m, n) times the product of k reflections."""
    *matrices, rows, columns = op.out
    count = factorizations.apply_reflections(rows, columns, op.shape("input2")[-1])
    return ({"matrices": tuple(matrices), "operations of each": count},)


_decomposition(
    "SVD",
    "_linalg_svd",
    lambda op, m, n: factorizations.svd(m, n, vectors=_read(op, 0, 2)),
    "14 m n^2 + 8 n^3; 4 m n^2 - 4/3 n^3 for values alone",
)
_decomposition(
    "pseudo-inverse",
    "linalg_pinv",
    lambda _, m, n: factorizations.svd(m, n, vectors=True) + 2 * m * n * min(m, n),
    "SVD, and a product",
)
_decomposition(
    "least squares",
    "linalg_lstsq",
    lambda op, m, n: (
        factorizations.qr(m, n, explicit=False)
        + factorizations.apply_reflections(max(m, n), _right(op, "B"), min(m, n))
        + factorizations.triangular(min(m, n), _right(op, "B"))
    ),
    "QR, its product with the right-hand sides, and a triangular solve",
)
_decomposition(
    "eigenvalues",
    "_linalg_eigh",
    lambda op, m, _: factorizations.symmetric_eigenvalues(m, vectors=_read(op, 1)),
    "9 n^3; 4/3 n^3 for values alone",
)
_decomposition(
    "eigenvalues",
    "linalg_eig",
    lambda _, m, __: factorizations.eigenvalues(m, vectors=True),
    "25 n^3",
)
_decomposition(
    "eigenvalues",
    "linalg_eigvals _linalg_eigvals",
    lambda _, m, __: factorizations.eigenvalues(m, vectors=False),
    "10 n^3",
)


@register_steps(Family.OTHER, "trace", "trace", how="one addition for each element of the diagonal")
def trace(op: Op) -> tuple[Factors, ...]:
    """The sum of a diagonal."""
    return ({"diagonal": min(op.first)},)


_CHEBYSHEV = " ".join(
    f"special_{kind}_polynomial_{letter}"
    for kind in ("chebyshev", "shifted_chebyshev")
    for letter in "tuvw"
)
per_output(
    "polynomial",
    1,
    f"{_CHEBYSHEV} special_hermite_polynomial_h special_hermite_polynomial_he "
    "special_laguerre_polynomial_l special_legendre_polynomial_p",
    None,
    "one function of each element",
    Family.OTHER,
)
