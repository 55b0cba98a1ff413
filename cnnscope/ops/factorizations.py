"""Floating-point operations of dense linear algebra, by the sizes of the matrices.

The counts are those of the textbooks, leading terms and all: Golub and Van Loan, Matrix
Computations, 4th edition, 2013 ("GVL", with the section or algorithm), and LAPACK Working Note 41,
1994 ("LAWN 41"). An addition is one operation and a multiplication another. Iterations (QR
algorithms for eigenvalues and singular values) are counted at the number of steps that GVL takes
as usual, because it depends on the values.
"""


def lu(rows: int, columns: int) -> int:
    """LU with partial pivoting: 2/3 n^3 for a square matrix (GVL 3.2.1, LAWN 41 for others)."""
    size = min(rows, columns)
    return 2 * rows * columns * size - (rows + columns) * size**2 + 2 * size**3 // 3


def cholesky(size: int) -> int:
    """Cholesky and LDL^T: n^3/3 (GVL 4.2.5, 4.4)."""
    return size**3 // 3


def inverse(size: int) -> int:
    """LU and its inverse: 2 n^3 (GVL 3.4.11, LAWN 41: 2/3 and 4/3)."""
    return 2 * size**3


def triangular(size: int, columns: int) -> int:
    """One triangular solve for each right-hand side: n^2 (GVL 3.1.2)."""
    return size**2 * columns


def qr(rows: int, columns: int, *, explicit: bool) -> int:
    """Householder QR: 2 n^2 (m - n/3), as many again for an explicit Q (GVL 5.2.2, 5.1.6)."""
    long, short = max(rows, columns), min(rows, columns)
    return (1 + explicit) * (2 * short**2 * long - 2 * short**3 // 3)


def apply_reflections(rows: int, columns: int, count: int) -> int:
    """A product with Q that is held as reflections: 4 m n k - 2 n k^2 (LAWN 41)."""
    return 4 * rows * columns * count - 2 * columns * count**2


def svd(rows: int, columns: int, *, vectors: bool) -> int:
    """Golub-Reinsch: 14 m n^2 + 8 n^3, or 4 m n^2 - 4/3 n^3 for values alone (GVL 8.6, 8.6.1)."""
    long, short = max(rows, columns), min(rows, columns)
    if vectors:
        return 14 * long * short**2 + 8 * short**3
    return 4 * long * short**2 - 4 * short**3 // 3


def symmetric_eigenvalues(size: int, *, vectors: bool) -> int:
    """Symmetric QR: 9 n^3, or 4/3 n^3 for values alone (GVL 8.3.3)."""
    return 9 * size**3 if vectors else 4 * size**3 // 3


def eigenvalues(size: int, *, vectors: bool) -> int:
    """QR algorithm: 25 n^3, or 10 n^3 for values alone (GVL 7.5.6)."""
    return 25 * size**3 if vectors else 10 * size**3
