//! The two element types CPU bodies are written over: `f32` for work, `f64` for proofs.

use crate::device::cpu::lanes::Lanes;
use std::{
    fmt::Debug,
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, Neg, Sub},
};

/// A floating-point element of a CPU body.
pub trait Real:
    Lanes
    + Send
    + Sync
    + PartialOrd
    + Debug
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// The value in double precision.
    fn f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// e to this power; in single precision the power is taken to lie in ±87, where the result is normal.
    fn exp(self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// The larger of two numbers.
    fn max(self, other: Self) -> Self;
    /// The smaller of two numbers.
    fn min(self, other: Self) -> Self;
}

macro_rules! real {
    ($t:ty, $exp:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as Self
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
        }
    };
}
real!(f32, exp_single);
real!(f64, f64::exp);

/// e^x to within two units in the last place, without branches or calls, so that loops over it become vectors.
///
/// e^x = 2ⁿ·e^r with n = ⌊x / ln 2⌉ and |r| ≤ ln 2 / 2; e^r by the polynomial of Cephes' `expf`.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp_single(x: f32) -> f32 {
    /// Added to a small number it leaves the nearest whole one in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    const MANTISSA_BITS: u32 = 23;
    let x = x.clamp(-87.0, 87.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    // ln 2 in two parts, the first of so few bits that n times it is exact.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_375, x));
    let p = 1.987_569_15e-4_f32;
    let p = p.mul_add(r, 1.398_199_95e-3).mul_add(r, 8.333_451_91e-3).mul_add(r, 4.166_579_59e-2);
    let p = p.mul_add(r, 1.666_666_55e-1).mul_add(r, 5.000_000_12e-1);
    let scale = f32::from_bits((rounded.to_bits() << MANTISSA_BITS).wrapping_add(1.0f32.to_bits()));
    p.mul_add(r * r, r + 1.0) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_powers_are_within_two_units() {
        let mut worst: f64 = 0.0;
        for i in -870_000..=870_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(Real::exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::exp(-1e9f32) > 0.0 && Real::exp(f32::INFINITY).is_finite());
    }
}
