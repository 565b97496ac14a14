//! Operations against PyTorch in float64, on fixtures made by `scripts/make_ops.py`.

use roentgen::{
    device::{DType, cpu::Cpu},
    ops::{
        activation::Act,
        bias::bias_act,
        conv::{conv2d, transposed::conv_transpose2d},
        dense_loss::{bce_with_logits, dice, focal, huber, l1, mse},
        elementwise::{activate, narrow, widen},
        norm::{BatchNorm, Statistics, batch_norm},
        pool::{adaptive_avg_pool, max_pool},
        regularise::{dropout, stochastic_depth},
        resample::{bilinear, crop_or_pad, upsample_nearest},
        slice::{channels, concat},
    },
    shape::Window,
    tape::Tape,
    tensor::Tensor,
};
use safetensors::SafeTensors;
use std::{fs, rc::Rc};

/// The tensors of one file.
struct Fixture(Vec<u8>);

impl Fixture {
    fn read(op: &str) -> Fixture {
        let path = format!("{}/tests/fixtures/ops/{op}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Fixture(fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn find(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).ok()?;
        Some((view.shape().to_vec(), DType::F64.decode(view.data())))
    }

    fn tensor(&self, tape: &Rc<Tape>, name: &str) -> Option<Tensor> {
        self.find(name).map(|(shape, values)| tape.floats(&shape, DType::F64, &values))
    }

    /// Value and gradients of a case against PyTorch's; inputs whose gradient is there are leaves.
    fn check(&self, case: &str, run: impl Fn(&[Tensor]) -> Tensor) {
        let tape = Tape::new(&Cpu::new(1 << 26), true);
        let input = |i: usize| {
            let x = self.tensor(&tape, &format!("{case}.{i}"))?;
            Some(if self.find(&format!("{case}.g{i}")).is_some() { x.leaf() } else { x })
        };
        let inputs: Vec<Tensor> = (0..).map_while(input).collect();
        let y = run(&inputs);
        let (shape, values) = self.find(&format!("{case}.y")).unwrap_or_else(|| panic!("no case {case}"));
        assert_eq!(y.shape(), shape, "{case}");
        assert_close(&format!("{case}: result"), &y.to_vec().unwrap(), &values);
        let grads = tape.backward_from(&y, self.tensor(&tape, &format!("{case}.g")).unwrap()).unwrap();
        for (i, x) in inputs.iter().enumerate() {
            if let Some((_, values)) = self.find(&format!("{case}.g{i}")) {
                let gradient = grads.of(x).expect("a gradient").to_vec().unwrap();
                assert_close(&format!("{case}: gradient {i}"), &gradient, &values);
            }
        }
    }
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            got == want || (got - want).abs() <= 1e-13 + 1e-12 * want.abs(),
            "{what}, element {i}: {got}, PyTorch {want}"
        );
    }
}

#[test]
fn activations() {
    let file = Fixture::read("activations");
    file.check("silu", |t| activate(&t[0], Act::Silu));
    file.check("sigmoid", |t| activate(&t[0], Act::Sigmoid));
}

#[test]
fn interpolation() {
    let file = Fixture::read("bilinear");
    for (case, size, align_corners) in [
        ("up", (7, 9), false),
        ("up_aligned", (7, 9), true),
        ("down", (3, 4), false),
        ("down_aligned", (3, 4), true),
        ("both", (2, 11), false),
        ("doubled", (8, 6), false),
        ("one", (1, 5), true),
    ] {
        file.check(case, |t| bilinear(&t[0], size, align_corners));
    }
    Fixture::read("nearest").check("doubled", |t| upsample_nearest(&t[0], 2));
}

#[test]
fn cropping_and_padding() {
    let file = Fixture::read("crop_or_pad");
    file.check("pad", |t| crop_or_pad(&t[0], (7, 7), (-1, -2)));
    file.check("both", |t| crop_or_pad(&t[0], (4, 4), (-1, 2)));
}

#[test]
fn adaptive_pooling() {
    let file = Fixture::read("adaptive_avg_pool");
    file.check("down", |t| adaptive_avg_pool(&t[0], (7, 7)));
    file.check("up", |t| adaptive_avg_pool(&t[0], (7, 7)));
    file.check("odd", |t| adaptive_avg_pool(&t[0], (3, 4)));
}

#[test]
fn a_window_of_minus_infinity_passes_its_gradient_to_its_first_pixel() {
    Fixture::read("max_pool").check("minus_infinity", |t| max_pool(&t[0], Window::square(3, 2, 1)));
}

#[test]
fn concatenation() {
    Fixture::read("concat").check("three", |t| concat(&[&t[0], &t[1], &t[2]]));
}

#[test]
fn transposed_convolution() {
    let file = Fixture::read("conv_transpose2d");
    file.check("2x2_s2", |t| conv_transpose2d(&t[0], &t[1], Window::square(2, 2, 0)));
    file.check("4x4_s2_p1", |t| conv_transpose2d(&t[0], &t[1], Window::square(4, 2, 1)));
}

#[test]
fn losses() {
    let file = Fixture::read("losses");
    file.check("bce", |t| bce_with_logits(&t[0], &t[1], &t[2], &t[3]));
    file.check("mse", |t| mse(&t[0], &t[1]));
    file.check("l1", |t| l1(&t[0], &t[1]));
    file.check("huber", |t| huber(&t[0], &t[1], 0.75));
    file.check("dice", |t| dice(&t[0], &t[1], 1.0, 0.0));
    file.check("dice_missed", |t| dice(&t[0], &t[1], 1.0, 8.0));
    file.check("focal", |t| focal(&t[0], &t[1], &t[2], &t[3], 2.0));
}

/// A biased convolution is one with another input channel that is 1 everywhere.
#[test]
fn biases() {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let values = |n: usize| (0..n).map(|i| (i as f64).sin()).collect::<Vec<_>>();
    let x = tape.floats(&[2, 3, 3, 4], DType::F64, &values(72));
    let (w, b) = (
        tape.floats(&[5, 1, 1, 4], DType::F64, &values(20)),
        tape.floats(&[5], DType::F64, &[1.0, -1.0, 0.5, 0.0, 2.0]),
    );
    let window = Window::square(1, 1, 0);
    let ones = tape.floats(&[2, 3, 3, 1], DType::F64, &[1.0; 18]);
    let extended: Vec<f64> =
        w.to_vec().unwrap().chunks(4).zip(b.to_vec().unwrap()).flat_map(|(w, b)| [w, &[b]].concat()).collect();
    let whole = conv2d(&concat(&[&x, &ones]), &tape.floats(&[5, 1, 1, 5], DType::F64, &extended), window);
    let biased = bias_act(&conv2d(&x, &w, window), &b, Act::Relu);
    assert_close("bias", &biased.to_vec().unwrap(), &activate(&whole, Act::Relu).to_vec().unwrap());
}

#[test]
fn ranges_of_channels_undo_a_concatenation() {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let part = |c: usize, from: f64| {
        tape.floats(&[2, 2, 1, c], DType::F64, &(0..4 * c).map(|i| from + i as f64).collect::<Vec<_>>())
    };
    let (a, b) = (part(3, 0.0), part(8, 100.0));
    let both = concat(&[&a, &b]);
    assert_eq!(channels(&both, 0..3).to_vec().unwrap(), a.to_vec().unwrap());
    assert_eq!(channels(&both, 3..11).to_vec().unwrap(), b.to_vec().unwrap());
}

/// Which of `n` images of three ones survive, at a step.
fn depth(n: usize, p: f32, seed: u64, step: u32, place: u32) -> Vec<f64> {
    let tape = Tape::new(&Cpu::new(1 << 26), true);
    let x = tape.floats(&[n, 1, 1, 3], DType::F64, &vec![1.0; 3 * n]).leaf();
    let step = tape.upload(&[1], DType::U32, bytemuck::bytes_of(&step));
    let y = stochastic_depth(&x, p, seed, &step, place);
    let values = y.to_vec().unwrap();
    let grads = tape.backward_from(&y, tape.floats(y.shape(), DType::F64, &vec![1.0; 3 * n])).unwrap();
    assert_eq!(grads.of(&x).unwrap().to_vec().unwrap(), values, "the backward pass leaves out other images");
    values.chunks(3).for_each(|image| assert!(image.iter().all(|&x| x == image[0]), "an image is left out as a whole"));
    values.into_iter().step_by(3).collect()
}

#[test]
fn stochastic_depth_leaves_out_whole_images() {
    let kept = depth(2000, 0.2, 1, 0, 0);
    assert!(kept.iter().all(|&x| x == 0.0 || (x - 1.25).abs() < 1e-7), "kept images are scaled by 1/(1 − p)");
    let share = kept.iter().filter(|&&x| x == 0.0).count() as f64 / 2000.0;
    assert!((share - 0.2).abs() < 0.03, "{share} left out");
    assert_eq!(kept, depth(2000, 0.2, 1, 0, 0));
    for other in [depth(2000, 0.2, 2, 0, 0), depth(2000, 0.2, 1, 1, 0), depth(2000, 0.2, 1, 0, 1)] {
        assert_ne!(kept, other, "seed, step and place matter");
    }
    assert!(depth(50, 0.0, 1, 0, 0).iter().all(|&x| x == 1.0));
}

#[test]
fn dropout_depends_on_the_step_in_memory() {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let x = tape.floats(&[64], DType::F64, &[1.0; 64]);
    let at = |step: u32| {
        let step = tape.upload(&[1], DType::U32, bytemuck::bytes_of(&step));
        dropout(&x, 0.5, 1, &step, 0).to_vec().unwrap()
    };
    assert_eq!(at(3), at(3));
    assert_ne!(at(3), at(4));
}

#[test]
fn a_cast_to_the_same_type_is_the_tensor_itself() {
    let tape = Tape::new(&Cpu::new(1 << 26), false);
    let x = tape.floats(&[3], DType::F32, &[1.0, 2.0, 3.0]);
    for y in [widen(&x), narrow(&x, DType::F32)] {
        assert_eq!(y.block().unwrap().address(), x.block().unwrap().address());
    }
}

/// running = (1 − momentum) · running + momentum · batch, of the variance the unbiased one, as PyTorch has it.
#[test]
fn running_statistics_move_by_the_momentum() {
    let tape = Tape::new(&Cpu::new(1 << 20), false);
    let floats = |values: &[f64]| tape.floats(&[values.len()], DType::F64, values);
    let bn = BatchNorm {
        weight: floats(&[1.0, 1.0]),
        bias: floats(&[0.0, 0.0]),
        running_mean: floats(&[2.0, -4.0]),
        running_var: floats(&[1.0, 0.5]),
        eps: 1e-5,
        momentum: 0.1,
        statistics: Statistics::Batch,
    };
    // Means 3 and -1, unbiased variances 8/3 and 16/3.
    let y = [1.0, -3.0, 5.0, 1.0, 3.0, 1.0, 3.0, -3.0];
    batch_norm(&tape.floats(&[1, 2, 2, 2], DType::F64, &y), &bn, Act::Identity);
    assert_close("means", &bn.running_mean.to_vec().unwrap(), &[2.1, -3.7]);
    assert_close("variances", &bn.running_var.to_vec().unwrap(), &[0.9 + 0.1 * 8.0 / 3.0, 0.45 + 0.1 * 16.0 / 3.0]);
}
