//! Every real case of `ops::ALL`, forward and backward, with the share of the machine's ceiling that its kernels reach: that of
//! a large sum where bytes are the bound, that of a large product where arithmetic is, both measured first. Times are those in the
//! kernels, as the device measures them; bytes are those of all tensors that each is given, operations its multiplications and additions.
//!
//! `ROENTGEN_BENCH_DEVICE=cuda` measures the GPU (in bf16, or what `ROENTGEN_BENCH_DTYPE` names), else the CPU in f32.

use criterion::Criterion;
use roentgen::{
    device::{DType, Device, KernelTime, cpu::Cpu, cuda::Cuda},
    ops::{self, Case, conv::conv2d, elementwise::add},
    rng::{Purpose, Rng},
    shape::Window,
    tape::Tape,
    tensor::Tensor,
};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

/// What is measured on.
struct Machine {
    device: Arc<dyn Device>,
    dtype: DType,
}

/// Time in kernels, the bytes that they are given and their floating-point operations.
#[derive(Clone, Copy, Default)]
struct Taken {
    seconds: f64,
    bytes: f64,
    flops: f64,
}

impl Machine {
    fn chosen() -> Machine {
        let var = |name| std::env::var(name).unwrap_or_default();
        let gpu = var("ROENTGEN_BENCH_DEVICE").starts_with("cuda");
        let device = if gpu { Cuda::new(0).unwrap_or_else(|e| panic!("{e}")) } else { Cpu::new(16 << 30) };
        let named = device.precisions().iter().find(|dtype| dtype.suffix() == var("ROENTGEN_BENCH_DTYPE"));
        let dtype = *named.unwrap_or(&device.precisions()[0]);
        Machine { device, dtype }
    }

    /// What the kernels that `body` launches take and do.
    fn kernels_of(&self, body: impl FnOnce()) -> Taken {
        self.device.sync().unwrap();
        self.device.kernel_times();
        body();
        self.device.sync().unwrap();
        let mut taken = Taken::default();
        for KernelTime { work, launches, seconds, .. } in self.device.kernel_times() {
            taken.seconds += seconds;
            taken.bytes += (launches * work.bytes) as f64;
            taken.flops += (2 * launches * work.macs) as f64;
        }
        taken
    }

    /// The fastest of a few.
    fn best(&self, mut body: impl FnMut()) -> Taken {
        let runs = (0..5).map(|_| self.kernels_of(&mut body));
        runs.min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("a few")
    }

    fn random(&self, tape: &Rc<Tape>, shape: &[usize], dtype: DType) -> Tensor {
        let mut rng = Rng::new(1, Purpose::Test, shape.len() as u32, 0);
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.range(-2.0, 2.0))).collect();
        tape.floats(shape, dtype, &values)
    }

    /// A sum of two large tensors, as fast as memory, and a large square product.
    fn ceiling(&self) -> [Taken; 2] {
        let tape = Tape::new(&self.device, false);
        let side = if self.device.runs_beside_host() { 8192 } else { 1024 };
        let [a, b] = [(); 2].map(|()| self.random(&tape, &[1 << 25], self.dtype));
        let matrix = self.random(&tape, &[1, 1, side, side], self.dtype);
        let weight = self.random(&tape, &[side, 1, 1, side], self.dtype);
        let product = || drop(conv2d(&matrix, &weight, Window::square(1, 1, 0)));
        [self.best(|| drop(add(&a, &b))), self.best(product)]
    }

    fn leaves(&self, tape: &Rc<Tape>, case: &Case) -> Vec<Tensor> {
        let dtype = |i| if case.wide.contains(&i) { self.dtype.wide() } else { self.dtype };
        let leaf = |(i, shape): (usize, &Vec<usize>)| self.random(tape, shape, dtype(i)).leaf();
        case.shapes.iter().enumerate().map(leaf).collect()
    }
}

/// Measures `pass` under criterion; returns the fastest of its runs.
fn measure(c: &mut Criterion, name: &str, mut pass: impl FnMut() -> Taken) -> Option<Taken> {
    let best = Cell::new(None::<Taken>);
    c.bench_function(name, |b| {
        b.iter_custom(|times| {
            let runs = (0..times).map(|_| pass()).inspect(|taken| {
                if best.get().is_none_or(|best| taken.seconds < best.seconds) {
                    best.set(Some(*taken));
                }
            });
            // Criterion divides by it; a pass that launches nothing is left out below.
            Duration::from_secs_f64(runs.map(|taken| taken.seconds).sum::<f64>().max(1e-9))
        });
    });
    best.get().filter(|taken| taken.seconds > 0.0)
}

fn main() {
    let machine = Machine::chosen();
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
        .configure_from_args();
    let [copy, product] = machine.ceiling();
    println!("{}, {}", machine.device.name(), machine.dtype.suffix());
    println!(
        "ceiling: {:.1} GB/s, {:.3} TFLOP/s",
        copy.bytes / copy.seconds / 1e9,
        product.flops / product.seconds / 1e12
    );
    let mut rows = vec![];
    for spec in ops::ALL {
        for case in (spec.cases)().iter().filter(|case| case.real) {
            let run = |recording| {
                let tape = Tape::new(&machine.device, recording);
                let inputs = machine.leaves(&tape, case);
                (tape, inputs)
            };
            let (_tape, inputs) = run(false);
            let forward = || machine.kernels_of(|| drop((case.run)(&inputs)));
            let backward = || {
                let (tape, inputs) = run(true);
                let y = (case.run)(&inputs);
                let gy = tape.floats(y.shape(), y.dtype(), &vec![1.0; y.len()]);
                machine.kernels_of(|| drop(tape.backward_from(&y, gy).unwrap()))
            };
            let passes: [(&str, &dyn Fn() -> Taken); 2] = [("forward", &forward), ("backward", &backward)];
            for (pass, run) in passes {
                let name = format!("{} {} {pass}", spec.name, case.label);
                rows.extend(measure(&mut c, &name, run).map(|taken| (name, taken)));
            }
        }
    }
    println!("{:56} {:>10} {:>9} {:>9} {:>8}", "", "us", "GB/s", "GFLOP/s", "ceiling");
    for (name, Taken { seconds, bytes, flops }) in rows {
        let least = (bytes / copy.bytes * copy.seconds).max(flops / product.flops * product.seconds);
        println!(
            "{name:56} {:10.1} {:9.1} {:9.1} {:7.0}%",
            seconds * 1e6,
            bytes / seconds / 1e9,
            flops / seconds / 1e9,
            100.0 * least / seconds
        );
    }
    c.final_summary();
}
