//! Small integers in, the same bits out: where every sum is exact in every type, whatever the order of its terms, a GPU, its
//! simulator and the CPU can only differ by a mistake. So this is the simulator against hardware, above all in mma and
//! ldmatrix, whose rounding it does not imitate: both must equal the CPU. What is not exact must be close, also where inputs lie
//! on a kink, as integers do and those of the other tests do not.

mod common;

use common::{
    cases::{distance, results, tolerance},
    gpu,
};
use roentgen::{
    device::{DType, Device, cpu::Cpu},
    ops::{self, Case, elementwise::add, pool::max_pool},
    rng::{Purpose, Rng},
    shape::Window,
};
use std::{collections::BTreeMap, sync::Arc};

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];

/// Operations all of whose cases are exact: those with a matrix product, and those that move and compare.
const EXACT: [&str; 12] = [
    "add",
    "concat",
    "channels",
    "conv2d",
    "conv_transpose2d",
    "crop_or_pad",
    "depthwise",
    "linear",
    "max_pool",
    "scale_channels",
    "upsample_nearest",
    "casts",
];

/// Integers from -`most` to `most`.
fn integers(stream: usize, n: usize, most: u32) -> Vec<f64> {
    let mut rng = Rng::new(2, Purpose::Test, stream as u32, 0);
    (0..n).map(|_| f64::from(rng.below(2 * most + 1)) - f64::from(most)).collect()
}

/// Whether `dtype`, or in place of double precision single, has all of these values.
fn holds(dtype: DType, values: &[f64]) -> bool {
    let dtype = if dtype == DType::F64 { DType::F32 } else { dtype };
    dtype.decode(&dtype.encode(values)) == values
}

/// The bits of a number; zero has one sign, since sums of products that are all -0 depend on what they start from.
fn bits(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

/// Whether what a case computes is exact in `dtype`, and how a device differs from the CPU, in words.
fn compare(gpu: &Arc<dyn Device>, cpu: &Arc<dyn Device>, case: &Case, dtype: DType) -> Result<bool, String> {
    // The larger ones do not always fit: sums in bf16 have to stay below 256.
    for most in [3, 1] {
        let input = |i: usize| integers(i, case.shapes[i].iter().product(), most);
        let inputs: Vec<_> = (0..case.shapes.len()).map(input).collect();
        let gy = |len| integers(99, len, most);
        let expected = results(cpu, case, DType::F64, &inputs, &gy).unwrap();
        let got = results(gpu, case, dtype, &inputs, &gy).map_err(|e| e.to_string())?;
        let exact = got.iter().zip(&expected).all(|((dtype, _), (_, values))| holds(*dtype, values));
        for (i, ((_, got), (_, expected))) in got.iter().zip(&expected).enumerate() {
            let what = || if i == 0 { "result".into() } else { format!("gradient of input {}", i - 1) };
            let differs = |&at: &usize| bits(got[at]) != bits(expected[at]);
            if let Some(at) = (0..got.len()).find(differs).filter(|_| exact) {
                return Err(format!("{}, element {at}: {}, on the CPU {}", what(), got[at], expected[at]));
            }
            let error = distance(got, expected);
            // In f32 wider than where numbers are drawn at random: integers give few different terms, which may all but cancel, and
            // the sum is then less exact than they are. On the wrong side of a kink it would be off by a whole term.
            let most = if dtype == DType::F32 { 4.0 } else { 1.0 } * tolerance(dtype);
            if !exact && !case.real && (error.is_nan() || error > most) {
                return Err(format!("{}: {error:.1e}", what()));
            }
        }
        if exact {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Windows that see nothing but minus infinity have a place of their maximum too.
fn pool_of_minus_infinity() -> Case {
    const X: [usize; 4] = [1, 5, 4, 8];
    let window = Window::square(3, 2, 1);
    Case::new("windows of minus infinity", &[&X], move |t| {
        let len: usize = X.iter().product();
        // Of the first pixels none is finite.
        let hidden: Vec<f64> = (0..len).map(|i| if i < len / 2 { f64::NEG_INFINITY } else { 0.0 }).collect();
        max_pool(&add(&t[0], &t[0].tape().floats(&X, t[0].dtype(), &hidden)), window)
    })
}

#[test]
fn integers_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(8 << 30);
    let only = std::env::var("ROENTGEN_ONLY").unwrap_or_default();
    // A GPU is quick enough for layers of real size.
    let simulated = gpu.name().contains("simulator");
    let mut cases: Vec<(&str, Case)> = vec![("max_pool", pool_of_minus_infinity())];
    for spec in ops::ALL {
        cases.extend((spec.cases)().into_iter().filter(|case| !(simulated && case.real)).map(|case| (spec.name, case)));
    }
    let (mut wrong, mut exact) = (vec![], BTreeMap::new());
    for (name, case) in cases.iter().filter(|(name, _)| name.contains(&only)) {
        for dtype in DTYPES {
            let (compared, all) = exact.entry(*name).or_insert((0, 0));
            *all += 1;
            match compare(&gpu, &cpu, case, dtype) {
                Ok(true) => *compared += 1,
                Ok(false) if !EXACT.contains(name) => {}
                Ok(false) => wrong.push(format!("{name} ({}), {dtype:?}: not exact", case.label)),
                Err(e) => wrong.push(format!("{name} ({}), {dtype:?}, {e}", case.label)),
            }
        }
    }
    for (name, (compared, all)) in exact {
        println!("{name:24} {compared:3} of {all:3} exact");
    }
    assert!(wrong.is_empty(), "the bits differ from the CPU's:\n{}", wrong.join("\n"));
}

/// Chips other than Hopper multiply by warps, in other code of the same kernels.
#[test]
fn so_do_chips_without_warp_groups() {
    const CAPABILITY: &str = "ROENTGEN_SIM_CAPABILITY";
    let Some(gpu) = gpu() else { return };
    if !gpu.name().contains("simulator") || std::env::var_os(CAPABILITY).is_some() {
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let again = again.args(["--exact", "integers_give_the_same_bits"]).env(CAPABILITY, "80").output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}
