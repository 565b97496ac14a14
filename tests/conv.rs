//! The CPU convolutions against a direct sum in f64, in any shape, type and number of threads.

use roentgen::{
    device::{Real, cpu::MOMENT_ROWS},
    ops::{
        conv::{Conv, cpu::*},
        depthwise::cpu::*,
    },
};

#[rustfmt::skip]
fn conv(n: i32, (h, w): (i32, i32), (c, k): (i32, i32), (r, s): (i32, i32), (stride_h, stride_w): (i32, i32), (pad_h, pad_w): (i32, i32)) -> Conv {
    let (oh, ow) = ((h + 2 * pad_h - r) / stride_h + 1, (w + 2 * pad_w - s) / stride_w + 1);
    Conv { n, h, w, c, k, r, s, oh, ow, stride_h, stride_w, pad_h, pad_w }
}

/// Kernel, stride and padding of every kind, on odd sizes.
#[rustfmt::skip]
fn windows() -> Vec<[(i32, i32); 4]> {
    vec![
        [(13, 11), (1, 1), (1, 1), (0, 0)],
        [(9, 10), (1, 1), (2, 2), (0, 0)],
        [(7, 9), (1, 1), (3, 2), (1, 1)],
        [(10, 9), (3, 3), (1, 1), (1, 1)],
        [(11, 10), (3, 3), (2, 2), (1, 1)],
        [(8, 8), (3, 3), (2, 2), (0, 0)],
        [(9, 7), (5, 5), (1, 1), (2, 2)],
        [(12, 11), (5, 5), (2, 2), (2, 2)],
        [(15, 17), (7, 7), (2, 2), (3, 3)],
        [(9, 8), (1, 7), (1, 1), (0, 3)],
        [(8, 9), (7, 1), (1, 1), (3, 0)],
        [(7, 6), (3, 2), (4, 3), (1, 0)],
        [(3, 3), (3, 3), (1, 1), (2, 2)],
    ]
}

fn cases() -> Vec<Conv> {
    let channels = [(3, 5), (8, 16), (1, 1), (17, 33), (40, 7), (3, 64)];
    let windows = windows();
    let pairs = windows.iter().flat_map(|w| channels.iter().map(move |c| (w, c)));
    pairs.enumerate().map(|(i, (&[hw, rs, st, pad], &ck))| conv(1 + i as i32 % 3, hw, ck, rs, st, pad)).collect()
}

fn depthwise_cases() -> Vec<Conv> {
    let windows = windows();
    let pairs = windows.iter().flat_map(|w| [1, 8, 19, 72].map(move |c| (w, c)));
    pairs.enumerate().map(|(i, (&[hw, rs, st, pad], c))| conv(1 + i as i32 % 3, hw, (c, c), rs, st, pad)).collect()
}

/// `len` values in (-0.5, 0.5), the same for the same seed.
fn noise<T: Real>(len: i32, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::of(f64::from((state >> 40) as u32) / f64::from(1 << 24) - 0.5)
        })
        .collect()
}

fn poison<T: Real>(len: usize) -> Vec<T> {
    vec![T::of(f64::NAN); len]
}

struct Data<T> {
    x: Vec<T>,
    w: Vec<T>,
    g: Vec<T>,
}

fn data<T: Real>(p: &Conv, weights_per_k: i32) -> Data<T> {
    Data {
        x: noise(p.n * p.h * p.w * p.c, 1),
        w: noise(p.k * p.r * p.s * weights_per_k, 2),
        g: noise(p.n * p.oh * p.ow * p.k, 3),
    }
}

/// Calls `f(x index, w index, y index)` for every product of the convolution.
fn products(p: &Conv, depthwise: bool, mut f: impl FnMut(usize, usize, usize)) {
    for (n, oy) in (0..p.n).flat_map(|n| (0..p.oh).map(move |oy| (n, oy))) {
        for (ox, tap) in (0..p.ow).flat_map(|ox| (0..p.r * p.s).map(move |tap| (ox, tap))) {
            let (iy, ix) = (oy * p.stride_h + tap / p.s - p.pad_h, ox * p.stride_w + tap % p.s - p.pad_w);
            if iy < 0 || iy >= p.h || ix < 0 || ix >= p.w {
                continue;
            }
            let (x, y) = ((n * p.h + iy) * p.w + ix, (n * p.oh + oy) * p.ow + ox);
            for k in 0..p.k {
                let channels = if depthwise { k..k + 1 } else { 0..p.c };
                for c in channels {
                    let w = if depthwise { k * p.r * p.s + tap } else { (k * p.r * p.s + tap) * p.c + c };
                    f((x * p.c + c) as usize, w as usize, (y * p.k + k) as usize);
                }
            }
        }
    }
}

/// Asserts that `got` is the sum `want` to within rounding, relative to the sum of the magnitudes.
fn assert_near<T: Real>(what: &str, p: &Conv, got: &[T], want: &[(f64, f64)]) {
    let epsilon = if size_of::<T>() == 4 { 2e-6 } else { 1e-14 };
    for (i, (got, (sum, magnitude))) in got.iter().zip(want).enumerate() {
        let error = (got.f64() - sum).abs();
        assert!(error <= epsilon * magnitude, "{what} of {p:?}: element {i} is {got:?}, expected {sum}");
    }
}

struct Results<T> {
    y: Vec<T>,
    moments: Vec<T>,
    gx: Vec<T>,
    gw: Vec<T>,
}

fn run<T: Real>(p: &Conv, depthwise: bool, data: &Data<T>) -> Results<T> {
    let pixels = (p.n * p.oh * p.ow) as usize;
    let mut out = Results {
        y: poison(data.g.len()),
        moments: poison(pixels.div_ceil(MOMENT_ROWS) * 2 * p.k as usize),
        gx: poison(data.x.len()),
        gw: poison(data.w.len()),
    };
    if depthwise {
        depthwise_fwd(p, &data.x, &data.w, &mut out.y, Some(&mut out.moments));
        depthwise_dgrad(p, &data.g, &data.w, &mut out.gx);
        depthwise_wgrad(p, &data.x, &data.g, &mut out.gw);
    } else {
        conv2d_fwd(p, &data.x, &data.w, &mut out.y, Some(&mut out.moments));
        conv2d_dgrad(p, &data.g, &data.w, &mut out.gx);
        conv2d_wgrad(p, &data.x, &data.g, &mut out.gw);
    }
    out
}

fn check<T: Real>(p: &Conv, depthwise: bool) {
    let d = data::<T>(p, if depthwise { 1 } else { p.c });
    let out = run(p, depthwise, &d);
    let [mut y, mut gx, mut gw] = [d.g.len(), d.x.len(), d.w.len()].map(|len| vec![(0.0, 0.0); len]);
    products(p, depthwise, |xi, wi, yi| {
        let (xv, wv, gv) = (d.x[xi].f64(), d.w[wi].f64(), d.g[yi].f64());
        for (sum, v) in [(&mut y[yi], xv * wv), (&mut gx[xi], gv * wv), (&mut gw[wi], xv * gv)] {
            *sum = (sum.0 + v, sum.1 + v.abs());
        }
    });
    assert_near("y", p, &out.y, &y);
    assert_near("gx", p, &out.gx, &gx);
    assert_near("gw", p, &out.gw, &gw);
    check_moments(p, &out.y, &out.moments);
    if !depthwise {
        let mut sum = d.x.clone();
        conv2d_dgrad_add(p, &d.g, &d.w, &mut sum);
        let expected: Vec<T> = d.x.iter().zip(&out.gx).map(|(&x, &gx)| x + gx).collect();
        assert_eq!(sum, expected, "gx of {p:?}, added");
    }
    let mut y = poison(d.g.len());
    if depthwise {
        depthwise_fwd(p, &d.x, &d.w, &mut y, None)
    } else {
        conv2d_fwd(p, &d.x, &d.w, &mut y, None)
    }
    assert_eq!(y, out.y, "y of {p:?} depends on whether moments are wanted");
}

fn check_moments<T: Real>(p: &Conv, y: &[T], moments: &[T]) {
    let k = p.k as usize;
    let (mean, m2): (Vec<_>, Vec<_>) = (y.chunks(MOMENT_ROWS * k).flat_map(|y| (0..k).map(move |k| (y, k))))
        .map(|(y, channel)| {
            let values: Vec<f64> = y[channel..].iter().step_by(k).map(|v| v.f64()).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let magnitude = values.iter().map(|v| v.abs()).sum::<f64>() / values.len() as f64;
            let m2 = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            ((mean, magnitude), (m2, m2 + magnitude * magnitude))
        })
        .unzip();
    for (block, got) in moments.chunks(2 * k).enumerate() {
        assert_near("mean", p, &got[..k], &mean[block * k..][..k]);
        assert_near("m2", p, &got[k..], &m2[block * k..][..k]);
    }
    let mut standalone = poison(moments.len());
    channel_moments(k, y, &mut standalone);
    assert_eq!(standalone, moments, "moments of {p:?} differ from the standalone ones");
}

#[test]
fn dense_equals_direct_sum() {
    for p in cases() {
        check::<f32>(&p, false);
        check::<f64>(&p, false);
    }
}

#[test]
fn depthwise_equals_direct_sum() {
    for p in depthwise_cases() {
        check::<f32>(&p, true);
        check::<f64>(&p, true);
    }
}

/// Bits of everything computed on a pool of so many threads.
fn bits(p: &Conv, depthwise: bool, threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    let out = pool.install(|| run::<f32>(p, depthwise, &data(p, if depthwise { 1 } else { p.c })));
    [out.y, out.moments, out.gx, out.gw].concat().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    for (p, depthwise) in [
        (conv(2, (28, 28), (24, 40), (3, 3), (1, 1), (1, 1)), false),
        (conv(2, (28, 28), (24, 40), (3, 3), (2, 2), (1, 1)), false),
        (conv(2, (28, 28), (40, 64), (1, 1), (1, 1), (0, 0)), false),
        (conv(2, (7, 7), (64, 128), (3, 3), (1, 1), (1, 1)), false),
        (conv(2, (28, 28), (48, 48), (3, 3), (1, 1), (1, 1)), true),
        (conv(2, (28, 28), (48, 48), (5, 5), (2, 2), (2, 2)), true),
    ] {
        let one = bits(&p, depthwise, 1);
        assert!(one == bits(&p, depthwise, 2) && one == bits(&p, depthwise, 3), "{p:?} depends on the thread count");
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// ⟨conv(x, w), g⟩ = ⟨x, dgrad(g, w)⟩ = ⟨w, wgrad(x, g)⟩, at sizes of real layers.
#[test]
fn gradients_are_adjoint() {
    for (p, depthwise) in [
        (conv(2, (56, 56), (64, 64), (3, 3), (1, 1), (1, 1)), false),
        (conv(2, (56, 56), (64, 128), (3, 3), (2, 2), (1, 1)), false),
        (conv(2, (56, 56), (72, 72), (5, 5), (2, 2), (2, 2)), true),
    ] {
        let d = data::<f32>(&p, if depthwise { 1 } else { p.c });
        let out = run(&p, depthwise, &d);
        let (forward, input, weights) = (dot(&out.y, &d.g), dot(&d.x, &out.gx), dot(&d.w, &out.gw));
        let scale = (dot(&out.y, &out.y) * dot(&d.g, &d.g)).sqrt();
        assert!((forward - input).abs() < 1e-6 * scale, "{p:?}: {forward} and {input}");
        assert!((forward - weights).abs() < 1e-6 * scale, "{p:?}: {forward} and {weights}");
    }
}
