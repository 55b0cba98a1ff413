"""Dense linear algebra: decompositions and solvers, by the sizes of matrices."""

from collections.abc import Callable

from cnnscope.ops import factorizations
from cnnscope.ops.entry import Entry, Factors, Family, Kind, enter, factors
from cnnscope.ops.operation import Op


def _decomposition(label: str, names: str, flops: Callable[[Op, int, int], int], how: str) -> None:
    """Register a decomposition by its operations for a matrix of (rows, columns).

    They are element operations and not MACs: MACs are of products of matrices alone.
    """

    def count(op: Op) -> tuple[Factors, ...]:
        *batch, rows, columns = op.first
        return ({"matrices": tuple(batch), "operations of each": flops(op, rows, columns)},)

    enter(names, Entry(label, Kind.ELEMENT, Family.OTHER, steps=count, how=how))


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
enter(
    "ormqr",
    Entry(
        "QR",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: (
            {
                "matrices": op.out[:-2],
                "operations of each": factorizations.apply_reflections(
                    op.out[-2], op.out[-1], op.shape("input2")[-1]
                ),
            },
        ),
        how="4 m n k - 2 n k^2",
    ),
)
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
enter(
    "trace",
    Entry(
        "trace",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: ({"diagonal": min(op.first)},),
        how="one addition for each element of the diagonal",
    ),
)
enter(
    " ".join(
        f"special_{family}_polynomial_{letter}"
        for family, letters in (
            ("chebyshev", "tuvw"),
            ("shifted_chebyshev", "tuvw"),
        )
        for letter in letters
    )
    + " special_hermite_polynomial_h special_hermite_polynomial_he "
    "special_laguerre_polynomial_l special_legendre_polynomial_p",
    Entry(
        "polynomial",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: factors(1, "output", op.out),
        how="one function of each element",
    ),
)
