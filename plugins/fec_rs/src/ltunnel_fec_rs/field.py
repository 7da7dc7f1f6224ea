"""GF(256) and the one formula of the code.

The field is that of `reedsolo` (its tables are used): polynomials over GF(2) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D),
generator 2.

A codeword of n = k + m rows is, in every column, a polynomial with the roots 2^0 .. 2^(m-1), row i being the
coefficient of x^(n-1-i). With the locator X_i = 2^(n-1-i) this reads

    sum of row_i * X_i^j over i = 0,   j = 0 .. m-1,   and so   sum of row_i * h(X_i) over i = 0

for every polynomial h of degree below m. Take for h the product of (X - X_u) over all unknown rows u but one, x: of the
unknown rows only x is left in the sum, so

    row_x = sum of row_a * h(X_a) / h(X_x) over the known rows a.

Encoding is the case in which the parity rows are the unknown ones. No matrix is ever inverted. (MacWilliams and Sloane,
The Theory of Error-Correcting Codes, chapter 10: the dual of a generalised Reed-Solomon code.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import reedsolo

Bytes = npt.NDArray[np.uint8]

PRIMITIVE = 0x11D
GENERATOR = 2

_logs, _powers, _order = reedsolo.init_tables(PRIMITIVE, GENERATOR, 8)
_LOG = np.array(_logs, np.int64)  # the entry of 0 has no meaning
_EXP = np.array(_powers[:_order], np.uint8)


def _products() -> Bytes:
    table = np.zeros((256, 256), np.uint8)
    table[1:, 1:] = _EXP[(_LOG[1:, None] + _LOG[None, 1:]) % _order]
    return table


PRODUCTS = tuple(row.tobytes() for row in _products())
"""``PRODUCTS[c][x]`` is c * x: tables for `bytes.translate`."""


def coefficients(total: int, unknown: Sequence[int], known: Sequence[int]) -> Bytes:
    """Say how unknown rows come out of known ones: (len(unknown), len(known)), by the formula above.

    `total` is n. Indices are those of rows; `unknown` and `known` share none. Rows in neither are taken as zero.
    """
    x = _EXP[total - 1 - np.array(unknown)]
    a = _EXP[total - 1 - np.array(known)]
    between = _LOG[x[:, None] ^ a]
    among = _LOG[x[:, None] ^ x]
    np.fill_diagonal(among, 0)
    at_known = between.sum(0) - between  # log of h(X_a), a row for each x
    at_own = among.sum(1)[:, None]  # log of h(X_x)
    result: Bytes = _EXP[(at_known - at_own) % _order]
    return result
