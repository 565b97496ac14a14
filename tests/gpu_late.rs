//! Steps whose results are read once the next step is launched, on the GPU or its simulator: as if each were waited for.

mod common;

use common::{
    gpu, make_images,
    runs::{ALL, begin_on, go_on, recipe, resume_on, same},
};
use roentgen::{
    data::Batch,
    device::{DType, Device, cpu::Cpu},
    models::Model,
    rng::{Purpose, Rng},
    task::Loss,
    train::{Checkpoint, Config, Objective, Optimiser, Optimizer, Outcome, RunFolder, step::Steps},
    weights,
};
use std::{cell::RefCell, path::Path, sync::Arc};

const NET: &str = "mobilenet_v3_small";
const CLASSES: usize = 3;
const SIDE: usize = 32;
const RATE: f64 = 1e-3;
/// Of four images until the third is recorded and two more replay it, then one of two, and one more of four.
const SIZES: [usize; 7] = [4, 4, 4, 4, 4, 2, 4];

fn batch(step: usize) -> Batch {
    let mut rng = Rng::new(9, Purpose::Test, step as u32, 0);
    let images = SIZES[step];
    let pixels = (0..images * SIDE * SIDE).map(|_| rng.bits() as u8).collect();
    let targets = (0..images * CLASSES).map(|_| rng.uniform() - 0.5).collect();
    Batch { targets, ..Batch::plain(SIDE, pixels, (0..images).map(|_| rng.below(CLASSES as u32)).collect()) }
}

fn model(device: &Arc<dyn Device>) -> (Model, Optimiser) {
    let config = Config { model: NET.into(), optimizer: Optimizer::Sgd, ..Config::default() };
    let mut model = Model::new(NET, CLASSES, device, DType::F32, 1).unwrap();
    let optimiser = Optimiser::new(&mut model, &config).unwrap();
    (model, optimiser)
}

fn classes() -> Objective {
    Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 }
}

/// Loss, images named rightly, and images of a step.
type Told = (f64, u64, usize);

/// What steps on `batches` tell, until `stop` of them are done, and in which order they are begun and told of.
fn each(
    run: &mut Steps,
    (model, optimiser): &(Model, Optimiser),
    batches: impl Iterator<Item = Batch>,
    stop: usize,
) -> (roentgen::Result<Vec<Told>>, Vec<String>) {
    let (order, mut results) = (RefCell::new(vec![]), vec![]);
    let batches = batches.enumerate().map(|(step, batch)| {
        order.borrow_mut().push(format!("begin {step}"));
        Ok((batch, (step as u64, RATE)))
    });
    let done = run.train_each(model, optimiser, batches, |result| {
        order.borrow_mut().push(format!("done {}", results.len()));
        results.push((result.loss, result.right, result.images));
        results.len() < stop
    });
    (done.map(|()| results), order.into_inner())
}

#[test]
fn results_read_late_are_those_read_at_once() {
    let Some(gpu) = gpu() else { return };
    let at_once = model(&gpu);
    let mut run = Steps::new(classes(), 1);
    let mut one = |step: usize| {
        let result = run.train(&at_once.0, &at_once.1, &batch(step), (step as u64, RATE)).unwrap();
        (result.loss, result.right, result.images)
    };
    let expected: Vec<_> = (0..SIZES.len()).map(&mut one).collect();
    assert!(expected.iter().any(|&(_, right, _)| right > 0), "{expected:?}");
    let late = model(&gpu);
    let (results, order) = each(&mut Steps::new(classes(), 1), &late, (0..SIZES.len()).map(batch), ALL);
    assert_eq!(results.unwrap(), expected);
    assert_eq!(order[..5], ["begin 0", "begin 1", "done 0", "begin 2", "done 1"]);
    let values = |(model, _): &(Model, Optimiser)| weights::tensors(&model.params).unwrap();
    assert!(values(&late) == values(&at_once), "the parameters differ");
}

#[test]
fn the_step_under_way_is_finished_and_told_of() {
    let Some(gpu) = gpu() else { return };
    let (results, order) = each(&mut Steps::new(classes(), 1), &model(&gpu), (0..4).map(batch), 2);
    assert_eq!(results.unwrap().len(), 3);
    assert_eq!(order, ["begin 0", "begin 1", "done 0", "begin 2", "done 1", "done 2"]);
    // The CPU has nothing under way.
    let (results, order) = each(&mut Steps::new(classes(), 1), &model(&Cpu::new(1 << 30)), (0..4).map(batch), 2);
    assert_eq!(results.unwrap().len(), 2);
    assert_eq!(order, ["begin 0", "done 0", "begin 1", "done 1"]);
}

#[test]
fn divergence_is_told_with_its_step() {
    let Some(gpu) = gpu() else { return };
    // Launched, recorded, replayed, and the last.
    for diverging in [1, 2, 3, 4] {
        let batches = (0..5).map(|step| match step == diverging {
            true => Batch { targets: vec![f32::NAN; 4 * CLASSES], ..batch(step) },
            false => batch(step),
        });
        let mut run = Steps::new(Objective::Distance(Loss::Mse), 1);
        let (results, order) = each(&mut run, &model(&gpu), batches, ALL);
        let said = results.unwrap_err().to_string();
        assert!(said.contains(&format!("the loss became NaN at step {} ", diverging + 1)), "{said}");
        let told = order.iter().filter(|event| event.starts_with("done")).count();
        assert_eq!(told, diverging, "{order:?}");
    }
}

#[test]
fn an_unreadable_batch_is_told_after_the_steps_before_it() {
    let Some(gpu) = gpu() else { return };
    let (model, optimiser) = model(&gpu);
    let unreadable = || Err(roentgen::Error::unusable("scan.png cannot be read", "leave it out"));
    let batches = (0..5).map(|step| if step == 2 { unreadable() } else { Ok((batch(step), (step as u64, RATE))) });
    let mut done = 0;
    let failed = Steps::new(classes(), 1).train_each(&model, &optimiser, batches, |_| {
        done += 1;
        true
    });
    assert!(failed.unwrap_err().to_string().contains("scan.png"));
    assert_eq!(done, 2);
}

#[test]
fn interrupted_and_resumed_equals_uninterrupted() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 9);
    let config = Config { batch: 4, epochs: 1, ema: Some(0.7), ..recipe(&data) };
    let whole = dir.path().join("whole");
    assert_eq!(go_on(begin_on(&gpu, &config, &whole, 1), ALL), Outcome::Complete);
    let state = |out: &Path| Checkpoint::open(&out.join("last.safetensors")).unwrap().state;
    assert_eq!(state(&whole).step, 3, "an epoch of three steps");
    // A part of a GPU has no counter of energy; that of the simulator goes up with each launch.
    assert!(gpu.meter().reads() || !gpu.name().contains("simulator"));
    let joules = |out: &Path| RunFolder::resume(out).unwrap().read_history(1).unwrap()[0].joules.unwrap_or_default();
    // Few steps may fall between two readings of a real counter.
    let counts = gpu.name().contains("simulator");
    assert!(!counts || joules(&whole) > 0.0);
    // With a step under way, with the last one under way, and with none: the epoch is over.
    for (pause, done) in [(1, 2), (2, 3), (3, 3)] {
        let out = dir.path().join(format!("paused{pause}"));
        assert_eq!(go_on(begin_on(&gpu, &config, &out, 1), pause), Outcome::Interrupted);
        let paused = state(&out);
        assert_eq!((paused.step, paused.step_in_epoch, paused.partial.images), (done, done as usize, 4 * done));
        assert_eq!(go_on(resume_on(&gpu, &out, 1), ALL), Outcome::Complete);
        same(&whole, &out, &format!("paused after {pause} steps"));
        assert!(!counts || joules(&out) > 0.0);
    }
}
