//! Random omissions in training: dropout of elements and stochastic depth of whole images.
//!
//! What is kept is a function of seed, step, place in the network and index, so that the backward pass and a resumed run
//! draw the same. The step is a tensor: a recorded step (see [`crate::device::Device::capture`]) repeats its parameters.

use super::{Case, Spec};
use crate::{
    device::{DType, Grid, Kernel, cpu::parallel},
    kernel,
    rng::{Purpose, philox, unit},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// What is left out of a tensor of `len` elements, `image` of them an image.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Omit {
    len: i64,
    image: i64,
    seed: [u32; 2],
    place: u32,
    p: f32,
}

impl Omit {
    /// Four random words.
    fn words(&self, index: usize, step: u32, purpose: Purpose) -> [u32; 4] {
        philox([index as u32, step, self.place, purpose as u32], self.seed)
    }

    /// What kept elements are multiplied by, so that the expectation stays.
    fn scale(&self) -> f64 {
        1.0 / (1.0 - f64::from(self.p))
    }
}

kernel!(DROPOUT = "dropout", |o: Omit, [x, step: u32] -> [y]| {
    let scale = T::of(o.scale());
    // Rows of four: one Philox block gives four words.
    parallel::rows(y, 4, #[inline(always)] |block, y| {
        for (i, (y, x)) in y.chunks_mut(4).zip(x[block * 4..].chunks(4)).enumerate() {
            let words = o.words(block + i, step[0], Purpose::Dropout);
            for ((y, &x), word) in y.iter_mut().zip(x).zip(words) {
                *y = if unit(word) < o.p { T::ZERO } else { x * scale };
            }
        }
    });
}, grid |_| Grid::threads((o.len as usize).div_ceil(4)));

/// Accesses of a thread to each tensor: the draw costs as much as one of them.
const DEPTH_ACCESSES: usize = 4;

kernel!(STOCHASTIC_DEPTH = "stochastic_depth", |o: Omit, [x, step: u32] -> [y]| {
    let image = o.image as usize;
    parallel::pieces(y, image, #[inline(always)] |n, y| {
        let [word, ..] = o.words(n, step[0], Purpose::Depth);
        if unit(word) < o.p {
            y.fill(T::ZERO);
        } else {
            let scale = T::of(o.scale());
            y.iter_mut().zip(&x[n * image..]).for_each(|(y, &x)| *y = x * scale);
        }
    });
}, grid |dtype| {
    let (image, pack) = (o.image as usize, dtype.pack());
    let accesses = if image.is_multiple_of(pack) { image / pack } else { image };
    Grid::new([o.len as usize / image, accesses.div_ceil(Grid::THREADS * DEPTH_ACCESSES), 1], Grid::THREADS)
});

#[track_caller]
fn omit(kernel: &'static Kernel, x: &Tensor, p: f32, seed: u64, step: &Tensor, place: u32) -> Tensor {
    let op = kernel.name;
    assert!((0.0..1.0).contains(&p), "{op}: a probability of {p}");
    assert!(step.dtype() == DType::U32 && step.shape() == [1], "{op}: the step is {step:?}");
    let image = x.len() / x.shape()[0];
    let o = Omit { len: x.len() as i64, image: image as i64, seed: [seed as u32, (seed >> 32) as u32], place, p };
    let y = x.like(op);
    launch(kernel, &o, &[x, step], &[&y]);
    let step = step.clone();
    y.record(op, &[x], move |g| {
        let gx = g.like(op);
        launch(kernel, &o, &[&g, &step], &[&gx]);
        vec![Some(gx)]
    })
}

/// Zeroes each element with probability `p` and scales the others by 1/(1−p) (Srivastava et al. 2014). `step` is one
/// u32; `place` tells apart the omissions of one network.
#[track_caller]
pub fn dropout(x: &Tensor, p: f32, seed: u64, step: &Tensor, place: u32) -> Tensor {
    omit(&DROPOUT, x, p, seed, step, place)
}

/// Zeroes each image of x `[n, …]` with probability `p` and scales the others by 1/(1−p): in front of the addition of a
/// residual, it leaves out the block (Huang et al. 2016; torchvision's mode "row"). `step` and `place` as in [`dropout`].
#[track_caller]
pub fn stochastic_depth(x: &Tensor, p: f32, seed: u64, step: &Tensor, place: u32) -> Tensor {
    omit(&STOCHASTIC_DEPTH, x, p, seed, step, place)
}

/// A case at step 1.
fn case(label: &'static str, shape: &[usize], op: fn(&Tensor, f32, u64, &Tensor, u32) -> Tensor) -> Case {
    let run = move |t: &[Tensor]| {
        let step = t[0].tape().upload(&[1], DType::U32, bytemuck::bytes_of(&1u32));
        op(&t[0], 0.4, 5, &step, 2)
    };
    Case::new(label, &[shape], run).linear_in(&[0])
}

/// Cases of [`dropout`].
pub static DROP: Spec = Spec {
    name: "dropout",
    cases: || vec![case("odd length", &[3, 7], dropout), case("8x1024", &[8, 1024], dropout).real()],
};

/// Cases of [`stochastic_depth`].
pub static DEPTH: Spec = Spec {
    name: "stochastic_depth",
    cases: || {
        vec![
            case("odd images", &[7, 3, 1, 5], stochastic_depth),
            case("images of 16 bytes", &[9, 1, 2, 8], stochastic_depth),
            case("14x14x112", &[8, 14, 14, 112], stochastic_depth).real(),
        ]
    },
};
