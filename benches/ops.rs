//! Every real case of `ops::ALL`, forward and backward, with the share of the machine's ceiling that it reaches: copying
//! speed where bytes are the bound, the speed of a large product where arithmetic is, both measured first.
//!
//! `ROENTGEN_BENCH_DEVICE=cuda` measures the GPU (in bf16, or what `ROENTGEN_BENCH_DTYPE` names), else the CPU in f32.

use criterion::Criterion;
use roentgen::{
    device::{DType, Device, cpu::Cpu, cuda::Cuda},
    ops::{self, Case, conv::conv2d, elementwise::add},
    rng::{Purpose, Rng},
    shape::Window,
    tape::Tape,
    tensor::Tensor,
};
use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is measured on.
struct Machine {
    device: Arc<dyn Device>,
    dtype: DType,
}

/// Bytes and floating-point operations that something moves and needs, or per second that a machine can.
#[derive(Clone, Copy)]
struct Work {
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

    /// Time of `body`, from an idle device to an idle device.
    fn time(&self, body: impl FnOnce()) -> Duration {
        self.device.sync().unwrap();
        let start = Instant::now();
        body();
        self.device.sync().unwrap();
        start.elapsed()
    }

    /// The best of a few times.
    fn best(&self, mut body: impl FnMut()) -> f64 {
        (0..5).map(|_| self.time(&mut body).as_secs_f64()).fold(f64::INFINITY, f64::min)
    }

    fn random(&self, tape: &Rc<Tape>, shape: &[usize], dtype: DType) -> Tensor {
        let mut rng = Rng::new(1, Purpose::Test, shape.len() as u32, 0);
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.range(-2.0, 2.0))).collect();
        tape.floats(shape, dtype, &values)
    }

    /// Bytes a second of a sum of two large tensors, operations a second of a large square product.
    fn ceiling(&self) -> Work {
        let tape = Tape::new(&self.device, false);
        let side = if self.dtype.size() == 2 { 8192 } else { 1024 };
        let long = self.random(&tape, &[1 << 25], self.dtype);
        let bytes = (3 * long.len() * self.dtype.size()) as f64 / self.best(|| drop(add(&long, &long.clone())));
        let matrix = self.random(&tape, &[1, 1, side, side], self.dtype);
        let weight = self.random(&tape, &[side, 1, 1, side], self.dtype);
        let product = self.best(|| drop(conv2d(&matrix, &weight, Window::square(1, 1, 0))));
        Work { bytes, flops: 2.0 * (side as f64).powi(3) / product }
    }

    fn leaves(&self, tape: &Rc<Tape>, case: &Case) -> Vec<Tensor> {
        let dtype = |i| if case.wide.contains(&i) { self.dtype.wide() } else { self.dtype };
        let leaf = |(i, shape): (usize, &Vec<usize>)| self.random(tape, shape, dtype(i)).leaf();
        case.shapes.iter().enumerate().map(leaf).collect()
    }
}

fn bytes(tensors: &[Tensor]) -> f64 {
    tensors.iter().map(|t| (t.len() * t.dtype().size()) as f64).sum()
}

/// Measures `pass` under criterion; returns the time of one, at its fastest.
fn measure(c: &mut Criterion, name: &str, mut pass: impl FnMut() -> Duration) -> f64 {
    let best = Cell::new(f64::INFINITY);
    c.bench_function(name, |b| {
        b.iter_custom(|times| {
            let total: Duration = (0..times).map(|_| pass()).sum();
            best.set(best.get().min(total.as_secs_f64() / times as f64));
            total
        });
    });
    best.get()
}

fn main() {
    let machine = Machine::chosen();
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
        .configure_from_args();
    let ceiling = machine.ceiling();
    println!("{}, {}", machine.device.name(), machine.dtype.suffix());
    println!("ceiling: {:.1} GB/s, {:.3} TFLOP/s", ceiling.bytes / 1e9, ceiling.flops / 1e12);
    let mut rows = vec![];
    for spec in ops::ALL {
        for case in (spec.cases)().iter().filter(|case| case.real) {
            let run = |recording| {
                let tape = Tape::new(&machine.device, recording);
                let inputs = machine.leaves(&tape, case);
                (tape, inputs)
            };
            let (_tape, inputs) = run(false);
            let y = (case.run)(&inputs);
            let (read, written, flops) = (bytes(&inputs), bytes(std::slice::from_ref(&y)), case.flops as f64);
            let name = format!("{} {}", spec.name, case.label);
            let forward = measure(&mut c, &format!("{name} forward"), || machine.time(|| drop((case.run)(&inputs))));
            let backward = measure(&mut c, &format!("{name} backward"), || {
                let (tape, inputs) = run(true);
                let y = (case.run)(&inputs);
                let gy = tape.floats(y.shape(), y.dtype(), &vec![1.0; y.len()]);
                machine.time(|| drop(tape.backward_from(&y, gy).unwrap()))
            });
            rows.push((format!("{name} forward"), forward, Work { bytes: read + written, flops }));
            rows.push((format!("{name} backward"), backward, Work { bytes: written + 2.0 * read, flops: 2.0 * flops }));
        }
    }
    println!("{:56} {:>10} {:>9} {:>9} {:>8}", "", "us", "GB/s", "GFLOP/s", "ceiling");
    for (name, seconds, work) in rows.iter().filter(|(_, seconds, _)| seconds.is_finite()) {
        let least = (work.bytes / ceiling.bytes).max(work.flops / ceiling.flops);
        println!(
            "{name:56} {:10.1} {:9.1} {:9.1} {:7.0}%",
            seconds * 1e6,
            work.bytes / seconds / 1e9,
            work.flops / seconds / 1e9,
            100.0 * least / seconds
        );
    }
    c.final_summary();
}
