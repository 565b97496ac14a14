//! Vectors of elements, whatever the instruction set: the little that the hot loops need of `pulp`.

use pulp::Simd;

/// An element type with vectors: `Vector<S>` holds as many as one register of the instruction set `S`.
pub trait Lanes: bytemuck::Pod + std::ops::Add<Output = Self> {
    /// One register of elements.
    type Vector<S: Simd>: bytemuck::Pod;
    /// Every lane `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// a·b + c, fused where the instruction set fuses.
    fn mul_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// a + b in every lane.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
}

macro_rules! lanes {
    ($t:ty, $vector:ident, $splat:ident, $add:ident, $mul:ident, $mul_add:ident) => {
        impl Lanes for $t {
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                // Without vectors a fused multiply-add is a slow library call.
                if S::IS_SCALAR { simd.$add(simd.$mul(a, b), c) } else { simd.$mul_add(a, b, c) }
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
        }
    };
}
lanes!(f32, f32s, splat_f32s, add_f32s, mul_f32s, mul_add_f32s);
lanes!(f64, f64s, splat_f64s, add_f64s, mul_f64s, mul_add_f64s);

/// Elements of a vector.
#[inline(always)]
pub const fn lanes<T: Lanes, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

/// The first elements of `x`, followed by zeros if it is shorter than a vector.
#[inline(always)]
pub fn load<T: Lanes, S: Simd>(simd: S, x: &[T]) -> T::Vector<S> {
    if x.len() >= lanes::<T, S>() {
        // SAFETY: the slice holds a whole vector.
        return unsafe { x.as_ptr().cast::<T::Vector<S>>().read_unaligned() };
    }
    let mut vector = T::splat(simd, T::zeroed());
    bytemuck::cast_slice_mut::<_, T>(std::slice::from_mut(&mut vector))[..x.len()].copy_from_slice(x);
    vector
}

/// Writes the elements of a vector to `out`, as many as it takes.
#[inline(always)]
pub fn store<T: Lanes, S: Simd>(out: &mut [T], vector: T::Vector<S>) {
    if out.len() >= lanes::<T, S>() {
        // SAFETY: the slice takes a whole vector.
        return unsafe { out.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
    }
    let len = out.len();
    out.copy_from_slice(&bytemuck::cast_slice::<_, T>(&[vector])[..len]);
}
