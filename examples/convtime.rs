use roentgen::ops::{
    conv::{Conv, cpu::*},
    depthwise::cpu::*,
};
use std::time::Instant;
#[repr(C)]
struct Ts {
    s: i64,
    n: i64,
}
unsafe extern "C" {
    fn clock_gettime(id: i32, t: *mut Ts) -> i32;
}
fn cpu() -> f64 {
    let mut t = Ts { s: 0, n: 0 };
    unsafe {
        clock_gettime(2, &mut t);
    }
    t.s as f64 + t.n as f64 * 1e-9
}
fn med(op: usize, secs: f64, mut f: impl FnMut()) -> f64 {
    if std::env::var("OP").is_ok_and(|o| o != op.to_string()) {
        return 1e9;
    }
    for _ in 0..3 {
        f()
    }
    let t0 = Instant::now();
    let mut v = vec![];
    while v.len() < 7 || t0.elapsed().as_secs_f64() < secs {
        let t = cpu();
        f();
        v.push(cpu() - t);
    }
    v.sort_by(f64::total_cmp);
    v[v.len() / 20]
}
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let secs: f64 = std::env::var("SECS").map_or(0.4, |s| s.parse().unwrap());
    if std::env::var("T2").is_err() {
        rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    }
    let mut shapes = vec![];
    for (c, k, r, s, h) in [
        (64, 64, 3, 1, 56),
        (64, 128, 3, 2, 56),
        (128, 128, 3, 1, 28),
        (256, 256, 3, 1, 14),
        (512, 512, 3, 1, 7),
        (64, 128, 1, 2, 56),
        (3, 64, 7, 2, 224),
        (16, 72, 1, 1, 56),
        (96, 576, 1, 1, 7),
        (24, 88, 1, 1, 28),
        (240, 40, 1, 1, 14),
    ] {
        shapes.push((false, c, k, r, s, h));
    }
    for (c, r, s, h) in [(72, 3, 2, 56), (88, 3, 1, 28), (240, 5, 1, 14), (576, 5, 1, 7), (144, 3, 1, 56)] {
        shapes.push((true, c, c, r, s, h));
    }
    println!("{:32}{:>8}{:>8}{:>8}{:>8}", "GFLOP/s", "fwd", "dgrad", "wgrad", "fwd+m");
    for (dw, c, k, r, s, h) in shapes {
        let name = if dw {
            format!("depthwise {c} {r}x{r}{} @{h}", if s > 1 { "/2" } else { "" })
        } else {
            format!("{c}-{k} {r}x{r}{} @{h}", if s > 1 { "/2" } else { "" })
        };
        if !args.iter().all(|a| name.contains(a.as_str())) {
            continue;
        }
        let pad = r / 2;
        let o = (h + 2 * pad - r) / s + 1;
        let p = Conv { n: 8, h, w: h, c, k, r, s: r, oh: o, ow: o, stride_h: s, stride_w: s, pad_h: pad, pad_w: pad };
        let m = (8 * o * o) as usize;
        let mut sd = 7u32;
        let mut rnd = |m: usize| {
            (0..m)
                .map(|_| {
                    sd = sd.wrapping_mul(1664525).wrapping_add(1013904223);
                    (sd >> 9) as f32 / 8388608.0 - 0.5
                })
                .collect::<Vec<f32>>()
        };
        let x = rnd((8 * h * h * c) as usize);
        let wl = if dw { c * r * r } else { k * r * r * c } as usize;
        let w = rnd(wl as usize);
        let g = rnd(m * k as usize);
        let mut y = g.clone();
        let mut gx = x.clone();
        let mut gw = w.clone();
        let mut mo = vec![0f32; m.div_ceil(MOMENT_BLOCK) * 2 * k as usize];
        let fl = 2.0 * (m as f64) * (k * r * r * if dw { 1 } else { c }) as f64 / 1e9;
        let v = if dw {
            [
                med(0, secs, || depthwise_fwd(&p, &x, &w, &mut y, None)),
                med(1, secs, || depthwise_dgrad(&p, &g, &w, &mut gx)),
                med(2, secs, || depthwise_wgrad(&p, &x, &g, &mut gw)),
                med(3, secs, || depthwise_fwd(&p, &x, &w, &mut y, Some(&mut mo))),
            ]
        } else {
            [
                med(0, secs, || conv2d_fwd(&p, &x, &w, &mut y, None)),
                med(1, secs, || conv2d_dgrad(&p, &g, &w, &mut gx)),
                med(2, secs, || conv2d_wgrad(&p, &x, &g, &mut gw)),
                med(3, secs, || conv2d_fwd(&p, &x, &w, &mut y, Some(&mut mo))),
            ]
        };
        println!("{name:32}{:8.1}{:8.1}{:8.1}{:8.1}", fl / v[0], fl / v[1], fl / v[2], fl / v[3]);
    }
}
