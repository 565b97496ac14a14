//! Training: schedules against PyTorch, what is trained and what is not, and that nothing but the recipe changes a result.

mod common;

use common::{
    make_images, quick, roentgen,
    runs::{ALL, Stop, begin, go_on, in_parts, recipe, resume, same},
    succeed,
};
use roentgen::{
    data::{Augment, Fractions, Split},
    device::{DType, cpu::Cpu},
    metrics::Measures,
    models::Model,
    report::EpochRecord,
    task::Monitor,
    train::{
        Checkpoint, ClassWeights, Config, Head, LrFactor, Objective, Optimiser, Optimizer, Outcome, Prepared,
        RunFolder, Session,
        schedule::{Course, Schedule},
        step::{self, Steps},
    },
    weights::{self, Values},
};
use serde_json::Value;
use std::{fs, path::Path, sync::atomic::AtomicBool};

#[test]
fn schedules_equal_pytorch() {
    let file = fs::read_to_string("tests/fixtures/golden/ops.json").unwrap();
    let golden: Value = serde_json::from_str(&file).unwrap();
    for (key, course) in
        [("one_cycle", Course::OneCycle), ("cosine_warmup", Course::Cosine), ("cosine", Course::Cosine)]
    {
        let golden = &golden["schedules"][key];
        let number = |name: &str| golden[name].as_f64();
        let schedule = Schedule {
            course,
            rate: number("max").or(number("base")).unwrap(),
            least: number("min").unwrap_or(0.0),
            total: golden["total"].as_u64().unwrap(),
            warmup: golden["warmup"].as_u64().unwrap_or(0),
        };
        for (step, rate) in golden["rates"].as_array().unwrap().iter().enumerate() {
            let (rate, ours) = (rate.as_f64().unwrap(), schedule.at(step as u64));
            assert!((ours - rate).abs() <= 1e-12 + 1e-9 * rate, "{key}, step {step}: {ours}, not {rate}");
        }
    }
}

#[test]
fn schedules_are_finite_at_every_length() {
    for course in [Course::Constant, Course::Cosine, Course::OneCycle] {
        for total in 1..50 {
            let schedule = Schedule { course, rate: 1.0, least: 0.0, total, warmup: 0 };
            assert!((0..total + 5).all(|t| (0.0..=1.0).contains(&schedule.at(t))), "{course:?} over {total} steps");
        }
    }
}

#[test]
fn interrupted_and_resumed_equals_uninterrupted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 20);
    let augment = Augment { noise: 0.1, cutout: 0.4, mixup: 0.4, cutmix: 1.0, ..Augment::default() };
    let config = Config { augment, ema: Some(0.7), ..recipe(&data) };
    let whole = dir.path().join("whole");
    assert_eq!(go_on(begin(&config, &whole, 1), ALL), Outcome::Complete);
    let steps = Checkpoint::open(&whole.join("last.safetensors")).unwrap().state.step as usize;
    assert_eq!(steps, 6, "two epochs of three steps");
    // In an epoch, at its end before validation, between, and just before the end; with other numbers of workers.
    for (i, pauses) in [vec![1], vec![3], vec![4], vec![2, 3], vec![6]].into_iter().enumerate() {
        let out = dir.path().join(format!("parts{i}"));
        in_parts(&config, &out, &pauses, i);
        same(&whole, &out, &format!("paused after {pauses:?} steps"));
    }
    // Resuming what is complete changes nothing.
    assert_eq!(go_on(resume(&whole, 3), ALL), Outcome::Complete);
    same(&whole, &dir.path().join("parts0"), "resumed when complete");
}

/// After three steps from w₁ to w₃ the average is (d²·w₁ + d·w₂ + w₃) / (d² + d + 1), of weights and of running statistics.
#[test]
fn averages_are_kept_in_place_of_the_weights() {
    const DECAY: f64 = 0.6;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 20);
    let run = |steps: u64, ema| {
        let out = dir.path().join(format!("{steps} {ema:?}"));
        let config = Config { steps: Some(steps), ema, epochs: 1, schedule: Course::Constant, ..recipe(&data) };
        assert_eq!(go_on(begin(&config, &out, 1), ALL), Outcome::Complete);
        ["best", "last"].map(|name| Checkpoint::open(&out.join(format!("{name}.safetensors"))).unwrap())
    };
    let runs = [run(1, None), run(2, None), run(3, None), run(3, Some(DECAY))];
    let [[_, w1], [_, w2], [_, w3], [best, last]] = runs;
    for name in ["features.0.0.weight", "features.0.1.running_var", "features.0.1.running_mean", "classifier.3.bias"] {
        let values = |checkpoint: &Checkpoint| match &checkpoint.tensors()[name].values {
            Values::F32(values) => values.clone(),
            Values::I64(_) => panic!("{name} is whole"),
        };
        let [w1, w2, w3, best, last] = [&w1, &w2, &w3, &best, &last].map(values);
        assert_eq!(last, w3, "{name}: training goes on from the weights");
        let weighted = |i: usize| DECAY * DECAY * f64::from(w1[i]) + DECAY * f64::from(w2[i]) + f64::from(w3[i]);
        for (i, &average) in best.iter().enumerate() {
            let expected = weighted(i) / (DECAY * DECAY + DECAY + 1.0);
            assert!((f64::from(average) - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{name}, {i}");
        }
        assert!(best != w3, "{name} does not move: the test shows nothing");
    }
    // They are what was validated, too.
    let out = best.path().parent().unwrap();
    let prepared = Prepared::again(&best.state, Some(&out.join("manifest.csv"))).unwrap();
    let validation = prepared.loader(Split::Validation, &best.state, 0).unwrap();
    let objective = Objective::new(&best.state.config, &prepared.dataset).unwrap();
    let loss = |checkpoint: &Checkpoint| {
        let model = checkpoint.model(&Cpu::new(1 << 30)).unwrap();
        let (head, flag) = (Head::of(&checkpoint.state), AtomicBool::new(false));
        step::validate(&model, &validation, &head, &objective, &flag).unwrap().unwrap().1
    };
    let history = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let record: EpochRecord = serde_json::from_str(history.lines().last().unwrap()).unwrap();
    let validated = record.validation_loss.unwrap();
    let (of_averages, of_weights) = ((loss(&best) - validated).abs(), (loss(&last) - validated).abs());
    assert!(of_averages < 1e-6 && of_weights > 10.0 * of_averages, "{of_averages:e}, of the weights {of_weights:e}");
}

#[test]
fn neither_workers_nor_threads_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b", "c"], 12);
    let file = dir.path().join("recipe.toml");
    fs::write(&file, "[augment]\nscale = [0.8, 1.2]\nnoise = 0.1\ncutout = 0.4\nmixup = 0.4\ncutmix = 1.0\n").unwrap();
    let run = |name: &str, workers: &str, threads: &str| {
        let out = dir.path().join(name);
        let mut args = quick(data.to_str().unwrap(), out.to_str().unwrap());
        args.extend(["--config", file.to_str().unwrap()]);
        let args = args.into_iter().chain(["--epochs", "2", "--workers", workers, "--threads", threads]);
        succeed(&mut roentgen(args));
        out
    };
    let one = run("one", "1", "1");
    same(&one, &run("four", "4", "1"), "four workers");
    same(&one, &run("threads", "0", "3"), "no workers, three threads");
}

/// The weights after a run, by name.
fn trained(config: &Config, out: &Path) -> weights::Tensors {
    go_on(begin(config, out, 1), ALL);
    Checkpoint::open(out).unwrap().tensors().clone()
}

#[test]
fn frozen_parameters_stay_and_the_others_move() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 10);
    let config = Config { epochs: 1, freeze: vec!["features.*".into()], ..recipe(&data) };
    let session = begin(&config, &dir.path().join("start"), 0);
    let before = weights::tensors(&session.model.params).unwrap();
    let after = trained(&config, &dir.path().join("run"));
    for (name, stored) in &before {
        // Frozen normalisations keep their statistics too.
        assert_eq!(*stored == after[name], name.starts_with("features."), "{name}");
    }
    // A factor of zero stops weights too, but not the statistics.
    let factors = vec![LrFactor { glob: "features.*".into(), factor: 0.0 }];
    let config = Config { freeze: vec![], lr_factors: factors, ..config };
    let after = trained(&config, &dir.path().join("slow"));
    assert_eq!(before["features.0.0.weight"], after["features.0.0.weight"]);
    assert_ne!(before["features.0.1.running_mean"], after["features.0.1.running_mean"]);
    assert_ne!(before["classifier.3.weight"], after["classifier.3.weight"]);
}

#[test]
fn biases_decay_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 10);
    // With hardly any rate nothing moves but by decay, and a huge decay shows.
    let config = Config {
        epochs: 1,
        optimizer: Optimizer::Sgd,
        lr: 1e-9,
        schedule: Course::Constant,
        weight_decay: 5e7,
        ..recipe(&data)
    };
    let scale = |tensors: &weights::Tensors, name: &str| match &tensors[name].values {
        weights::Values::F32(values) => values.iter().map(|v| v.abs()).sum::<f32>() / values.len() as f32,
        weights::Values::I64(_) => panic!("{name} is a counter"),
    };
    let plain = trained(&config, &dir.path().join("plain"));
    let all = trained(&Config { decay_all: true, ..config }, &dir.path().join("all"));
    assert!((scale(&plain, "features.0.1.weight") - 1.0).abs() < 1e-3, "normalisation decayed");
    assert!(scale(&all, "features.0.1.weight") < 0.97, "normalisation did not decay");
    assert!(scale(&plain, "features.12.0.weight") < 0.97 * scale_at_start(&data, dir.path()), "weights did not decay");
}

/// Mean magnitude of `features.12.0.weight` before training.
fn scale_at_start(data: &Path, dir: &Path) -> f32 {
    let session = begin(&recipe(data), &dir.join("untrained"), 0);
    let id = session.model.params.find("features.12.0.weight").unwrap();
    let values = session.model.params.get(id).unwrap();
    values.iter().map(|v| v.abs()).sum::<f32>() / values.len() as f32
}

#[test]
fn patience_ends_a_run_early() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 10);
    // Nothing is learnt at this rate, so the first epoch stays the best.
    let config = Config { epochs: 9, lr: 1e-12, patience: 2, ..recipe(&data) };
    let out = dir.path().join("run");
    go_on(begin(&config, &out, 1), ALL);
    let state = Checkpoint::open(&out.join("last.safetensors")).unwrap().state;
    assert_eq!((state.epoch, state.best.unwrap().epoch), (3, 1));
    // Also when taken up again.
    assert_eq!(go_on(resume(&out, 1), ALL), Outcome::Complete);
    assert_eq!(Checkpoint::open(&out.join("last.safetensors")).unwrap().state.epoch, 3);
}

/// Of two runs that were given one folder before either had begun, one gets it.
#[test]
fn a_folder_is_taken_by_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 10);
    let out = dir.path().join("run");
    let late = RunFolder::create(&out, false).unwrap();
    begin(&recipe(&data), &out, 0);
    let refused = Session::begin(recipe(&data), late, &Cpu::new(1 << 30), 0).err().expect("it is taken").to_string();
    assert!(refused.contains("already holds a run"), "{refused}");
}

#[test]
fn an_epoch_kept_after_the_last_save_stays_the_best() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 10);
    // Without a validation split the latest is the best.
    let config = Config { split: Fractions { validation: 0.0, test: 0.2 }, ..recipe(&data) };
    let out = dir.path().join("run");
    assert_eq!(go_on(begin(&config, &out, 0), 1), Outcome::Interrupted);
    let early = fs::read(out.join("last.safetensors")).unwrap();
    assert_eq!(go_on(resume(&out, 0), ALL), Outcome::Complete);
    let kept = Checkpoint::open(&out.join("best.safetensors")).unwrap().state.best;
    fs::write(out.join("last.safetensors"), early).unwrap();
    let state = resume(&out, 0).state;
    assert_eq!((state.step, state.best), (1, kept));
}

#[test]
fn what_is_no_number_is_better_than_nothing_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 20);
    let config = Config { epochs: 3, monitor: Some(Monitor::Loss), ..recipe(&data) };
    let out = dir.path().join("run");
    // Training does not look at running statistics, validation does.
    let spoil = |session: &Session, variance: f32| {
        let params = &session.model.params;
        let id = params.find("features.0.1.running_var").unwrap();
        params.set(id, &vec![variance; params.entry(id).len()]).unwrap();
    };
    let best =
        || Checkpoint::open(&out.join("last.safetensors")).unwrap().state.best.map(|best| (best.epoch, best.value));
    let session = begin(&config, &out, 0);
    spoil(&session, f32::NAN);
    assert_eq!(go_on(session, 4), Outcome::Interrupted);
    assert_eq!(best(), Some((1, None)));
    assert_eq!(go_on(resume(&out, 0), 3), Outcome::Interrupted);
    assert_eq!(best(), Some((1, None)), "the second is no better");
    let session = resume(&out, 0);
    spoil(&session, 1.0);
    assert_eq!(go_on(session, ALL), Outcome::Complete);
    assert!(best().is_some_and(|(epoch, value)| epoch == 3 && value.is_some_and(f64::is_finite)), "{:?}", best());
}

#[test]
fn balanced_weights_are_those_of_scikit_learn() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data.join("Training"), &["a", "b"], 9);
    make_images(&data.join("Training"), &["c"], 2);
    make_images(&data.join("Testing"), &["a", "b", "c"], 1);
    let mut config = Config { class_weights: ClassWeights::Balanced, ..recipe(&data) };
    config.split.validation = 0.0;
    let session = begin(&config, &dir.path().join("run"), 1);
    // compute_class_weight("balanced", classes=[0, 1, 2], y=[0]*9 + [1]*9 + [2]*2)
    let expected = [0.740_740_740_740_740_7, 0.740_740_740_740_740_7, 3.333_333_333_333_333_5];
    let objective = Objective::new(&config, &session.prepared.dataset).unwrap();
    assert_eq!(objective, Objective::CrossEntropy { class_weights: expected.into(), label_smoothing: 0.0 });
    // Without a validation split the latest epoch is kept.
    assert_eq!(go_on(session, ALL), Outcome::Complete);
    assert_eq!(Checkpoint::open(&dir.path().join("run")).unwrap().state.best.unwrap().epoch, 2);
}

#[test]
fn an_epoch_is_recorded_as_its_steps_went() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 20);
    let config = Config { epochs: 1, schedule: Course::Constant, label_smoothing: 0.1, ..recipe(&data) };
    let mut session = begin(&config, &dir.path().join("run"), 1);
    // The same steps by hand, on a network of its own.
    let mut model = Model::new(&config.model, 2, &Cpu::new(1 << 30), DType::F32, config.seed).unwrap();
    let optimiser = Optimiser::new(&mut model, &config).unwrap();
    let objective = Objective::CrossEntropy { class_weights: vec![1.0; 2], label_smoothing: 0.1 };
    let mut steps = Steps::new(objective, config.seed);
    let (mut losses, mut right) = (vec![], 0);
    for (i, batch) in session.prepared.training_loader(&session.state, 0).epoch(0, 0).enumerate() {
        let result = steps.train(&model, &optimiser, &batch.unwrap(), (i as u64, config.lr)).unwrap();
        losses.push(result.loss);
        right += result.right;
    }
    let flag = AtomicBool::new(false);
    session.train(&mut Stop { after: ALL, flag: &flag }, &flag).unwrap();
    let record = &session.history[0];
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((record.train_loss - mean).abs() < 1e-12, "{} is not the mean of {losses:?}", record.train_loss);
    assert_eq!(record.train_accuracy, Some(right as f64 / (losses.len() * config.batch) as f64));
    assert_eq!(record.learning_rate, config.lr);
    assert_eq!(weights::tensors(&session.model.params).unwrap(), weights::tensors(&model.params).unwrap());
}

#[test]
fn it_learns() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b", "c"], 40);
    let config = Config { model: "resnet18".into(), epochs: 5, augment: Augment::none(), ..recipe(&data) };
    let mut session = begin(&config, &dir.path().join("run"), 2);
    let flag = AtomicBool::new(false);
    session.train(&mut Stop { after: ALL, flag: &flag }, &flag).unwrap();
    let finished = session.finish(&[], &[], &flag).unwrap().unwrap();
    let Measures::Classes(summary) = &finished.summaries[0].1 else { panic!("other measures") };
    assert!(summary.accuracy >= 0.9, "only {} right", summary.accuracy);
}
