//! The pointwise activations, each a function and its derivative.

use crate::device::Real;

/// An activation by name, as models and kernels pass it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Act {
    /// u
    Identity = 0,
    /// max(u, 0)
    Relu = 1,
    /// u · clamp(u + 3, 0, 6) / 6 (Howard et al. 2019)
    HardSwish = 2,
    /// clamp(u + 3, 0, 6) / 6
    HardSigmoid = 3,
    /// u · σ(u) (Elfwing et al. 2018; swish)
    Silu = 4,
    /// σ(u) = 1 / (1 + exp(−u))
    Sigmoid = 5,
}

/// A function and its derivative, both of the pre-activation `u`; at a kink the derivative is PyTorch's.
pub trait Activation {
    /// The value.
    fn f<T: Real>(u: T) -> T;
    /// The derivative.
    fn df<T: Real>(u: T) -> T;
}

/// [`Act::Identity`].
pub struct Identity;
impl Activation for Identity {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        u
    }
    #[inline(always)]
    fn df<T: Real>(_: T) -> T {
        T::ONE
    }
}

/// [`Act::Relu`].
pub struct Relu;
impl Activation for Relu {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        // Written, like those below, so that NaN stays NaN: an overflow must not look like a quiet neuron.
        if u <= T::ZERO { T::ZERO } else { u }
    }
    #[inline(always)]
    fn df<T: Real>(u: T) -> T {
        if u <= T::ZERO { T::ZERO } else { T::ONE }
    }
}

/// [`Act::HardSwish`].
pub struct HardSwish;
impl Activation for HardSwish {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        u * HardSigmoid::f(u)
    }
    #[inline(always)]
    fn df<T: Real>(u: T) -> T {
        let inside = (u + u + T::of(3.0)) * T::of(1.0 / 6.0);
        let right = if u >= T::of(3.0) { T::ONE } else { inside };
        if u <= T::of(-3.0) { T::ZERO } else { right }
    }
}

/// [`Act::HardSigmoid`].
pub struct HardSigmoid;
impl Activation for HardSigmoid {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        let inside = (u + T::of(3.0)) * T::of(1.0 / 6.0);
        let right = if u >= T::of(3.0) { T::ONE } else { inside };
        if u <= T::of(-3.0) { T::ZERO } else { right }
    }
    #[inline(always)]
    fn df<T: Real>(u: T) -> T {
        let inside = u > T::of(-3.0) && u < T::of(3.0);
        if inside { T::of(1.0 / 6.0) } else { T::ZERO }
    }
}

/// [`Act::Silu`].
pub struct Silu;
impl Activation for Silu {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        u * Sigmoid::f(u)
    }
    #[inline(always)]
    fn df<T: Real>(u: T) -> T {
        let s = Sigmoid::f(u);
        s * (T::ONE + u * (T::ONE - s))
    }
}

/// [`Act::Sigmoid`].
pub struct Sigmoid;
impl Activation for Sigmoid {
    #[inline(always)]
    fn f<T: Real>(u: T) -> T {
        T::ONE / (T::ONE + (-u).exp())
    }
    #[inline(always)]
    fn df<T: Real>(u: T) -> T {
        let s = Sigmoid::f(u);
        s * (T::ONE - s)
    }
}

/// Runs a body with `$A` bound to the type of the activation whose number is `$act`.
macro_rules! with_activation {
    ($act:expr, $A:ident => $body:expr) => {{
        use $crate::ops::activation as a;
        match $act {
            n if n == a::Act::Identity as i32 => {
                type $A = a::Identity;
                $body
            }
            n if n == a::Act::Relu as i32 => {
                type $A = a::Relu;
                $body
            }
            n if n == a::Act::HardSwish as i32 => {
                type $A = a::HardSwish;
                $body
            }
            n if n == a::Act::HardSigmoid as i32 => {
                type $A = a::HardSigmoid;
                $body
            }
            n if n == a::Act::Silu as i32 => {
                type $A = a::Silu;
                $body
            }
            n if n == a::Act::Sigmoid as i32 => {
                type $A = a::Sigmoid;
                $body
            }
            n => panic!("no activation has number {n}"),
        }
    }};
}
pub(crate) use with_activation;
