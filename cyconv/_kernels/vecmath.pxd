"""exp and expm1 of nonpositive numbers as straight-line code that compilers vectorise: no table, no branch, no call.

e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln(2) / 2. Adding 1.5 * 2^23 (1.5 * 2^52) rounds to an integer and
leaves it in the low bits; ln 2 is subtracted in two parts, the first short enough for n times it to be exact; 2^n is
made by writing its exponent's bits. Only nonpositive numbers are needed, so nothing overflows. NaN comes out as NaN
because every comparison lets it pass.

Measured against long double, with and without fused multiply-add: exp within 1.01 ulp, expm1 within 1.17 ulp.
"""

from cython cimport floating
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline float power_of_two_float(int32_t n) noexcept nogil:
    cdef uint32_t bits = <uint32_t>(n + 127) << 23
    cdef float value
    memcpy(&value, &bits, sizeof(float))
    return value


cdef inline double power_of_two_double(int64_t n) noexcept nogil:
    cdef uint64_t bits = <uint64_t>(n + 1023) << 52
    cdef double value
    memcpy(&value, &bits, sizeof(double))
    return value


cdef inline int32_t integer_float(float shifted) noexcept nogil:
    """The integer that adding 1.5 * 2^23 left in the low bits."""
    cdef int32_t bits
    memcpy(&bits, &shifted, sizeof(float))
    return bits - 0x4B400000


cdef inline int64_t integer_double(double shifted) noexcept nogil:
    cdef int64_t bits
    memcpy(&bits, &shifted, sizeof(double))
    return bits - 0x4338000000000000LL


cdef inline float reduced_float(float x, int32_t* n) noexcept nogil:
    cdef float shifted = x * <float>1.44269504 + <float>12582912
    cdef float whole = shifted - <float>12582912
    n[0] = integer_float(shifted)
    return (x - whole * <float>0.693359375) - whole * <float>-2.12194440e-4


cdef inline double reduced_double(double x, int64_t* n) noexcept nogil:
    cdef double shifted = x * 1.4426950408889634 + 6755399441055744.0
    cdef double whole = shifted - 6755399441055744.0
    n[0] = integer_double(shifted)
    return (x - whole * 0.693145751953125) - whole * 1.42860682030941723212e-6


cdef inline float expm1_core_float(float r) noexcept nogil:
    """e^r - 1 for |r| <= 0.347, by the polynomial of Cephes' expf."""
    cdef float p = <float>1.9875691500e-4
    p = p * r + <float>1.3981999507e-3
    p = p * r + <float>8.3334519073e-3
    p = p * r + <float>4.1665795894e-2
    p = p * r + <float>1.6666665459e-1
    p = p * r + <float>5.0000001201e-1
    return p * (r * r) + r


cdef inline double expm1_core_double(double r) noexcept nogil:
    """e^r - 1 for |r| <= 0.347: Taylor's polynomial to degree 13, whose remainder is below 1e-17."""
    cdef double p = 1.6059043836821613e-10
    p = p * r + 2.0876756987868099e-9
    p = p * r + 2.5052108385441719e-8
    p = p * r + 2.7557319223985891e-7
    p = p * r + 2.7557319223985893e-6
    p = p * r + 2.4801587301587302e-5
    p = p * r + 1.9841269841269841e-4
    p = p * r + 1.3888888888888889e-3
    p = p * r + 8.3333333333333333e-3
    p = p * r + 4.1666666666666667e-2
    p = p * r + 1.6666666666666667e-1
    p = p * r + 0.5
    return p * (r * r) + r


cdef inline floating exp_nonpositive(floating x) noexcept nogil:
    """e^x for x <= 0; 0 where that is too small for a normal number."""
    cdef int32_t n
    cdef int64_t m
    cdef floating one = 1
    if floating is float:
        x = <floating>-88 if x < -88 else x     # n = -127: a factor with no exponent bits is 0
        x = expm1_core_float(reduced_float(x, &n))
        return (x + one) * power_of_two_float(n)
    else:
        x = -709 if x < -709 else x
        x = expm1_core_double(reduced_double(x, &m))
        return (x + one) * power_of_two_double(m)


cdef inline floating expm1_nonpositive(floating x) noexcept nogil:
    """e^x - 1 for x <= 0, with full relative accuracy near 0."""
    cdef int32_t n
    cdef int64_t m
    cdef floating scale, one = 1
    if floating is float:
        x = <float>-87 if x < -87 else x        # e^x vanishes beside 1
        x = expm1_core_float(reduced_float(x, &n))
        scale = power_of_two_float(n)
    else:
        x = -700 if x < -700 else x
        x = expm1_core_double(reduced_double(x, &m))
        scale = power_of_two_double(m)
    return x * scale + (scale - one)
