//! Every real case of `ops::ALL`, forward, and forward with backward; throughput is in floating-point operations where
//! arithmetic is the bound, else in the bytes of inputs and result.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roentgen::{
    device::{DType, cpu::Cpu},
    ops::{self, Case},
    rng::{Purpose, Rng},
    tape::Tape,
    tensor::Tensor,
};
use std::{rc::Rc, time::Duration};

fn leaves(tape: &Rc<Tape>, case: &Case) -> Vec<Tensor> {
    let mut rng = Rng::new(1, Purpose::Test, 0, 0);
    let mut values = |n: usize| (0..n).map(|_| f64::from(rng.range(-2.0, 2.0))).collect::<Vec<_>>();
    let leaf = |shape: &Vec<usize>| tape.floats(shape, DType::F32, &values(shape.iter().product())).leaf();
    case.shapes.iter().map(leaf).collect()
}

fn all(c: &mut Criterion) {
    let device = Cpu::new(8 << 30);
    for spec in ops::ALL {
        for case in (spec.cases)().iter().filter(|case| case.real) {
            let mut group = c.benchmark_group(format!("{}/{}", spec.name, case.label));
            let still = Tape::new(&device, false);
            let inputs = leaves(&still, case);
            let y = (case.run)(&inputs);
            group.throughput(match case.flops {
                0 => Throughput::Bytes(4 * (inputs.iter().map(Tensor::len).sum::<usize>() + y.len()) as u64),
                flops => Throughput::Elements(flops),
            });
            group.bench_function("forward", |b| b.iter(|| (case.run)(&inputs)));
            group.bench_function("forward+backward", |b| {
                b.iter_batched(
                    || {
                        let tape = Tape::new(&device, true);
                        let inputs = leaves(&tape, case);
                        let gy = tape.floats(y.shape(), DType::F32, &vec![1.0; y.len()]);
                        (tape, inputs, gy)
                    },
                    |(tape, inputs, gy)| tape.backward_from(&(case.run)(&inputs), gy),
                    criterion::BatchSize::PerIteration,
                );
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = all
}
criterion_main!(benches);
