//! The engine as a whole: steady memory, and errors that stick instead of panicking.

use roentgen::{
    Error, Result,
    device::{DType, Device, cpu::Cpu, energy::Meter},
    models::Model,
    nn::Mode,
    ops::loss::softmax_cross_entropy,
};
use std::{fs, path::Path, sync::Arc};

const CLASSES: usize = 3;

fn model(device: &Arc<dyn Device>) -> Result<Model> {
    Model::new("mobilenet_v3_small", CLASSES, device, DType::F32, 1)
}

/// One forward and backward pass over two images of 32 px; the number of parameters that got a gradient.
fn step(model: &Model) -> Result<usize> {
    let pass = model.pass(Mode::Train { seed: Some(1), step: 0 });
    let images: Vec<f32> = (0..2 * 32 * 32 * 3).map(|i| (i % 17) as f32 / 17.0).collect();
    let logits = model.forward(&pass, &pass.images([2, 32, 32, 3], &images));
    let targets = pass.tape().floats(&[2, CLASSES], DType::F32, &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let weights = pass.tape().floats(&[CLASSES], DType::F32, &[1.0; CLASSES]);
    let loss = softmax_cross_entropy(&logits, &targets, &weights, 0.0);
    let grads = pass.tape().backward(&loss)?;
    Ok(model.params.iter().filter(|(id, _)| pass.gradient(&grads, *id).is_some()).count())
}

#[test]
fn memory_is_steady_after_the_first_step() {
    let device = Cpu::new(1 << 30);
    let model = model(&device).unwrap();
    let parameters = device.memory().in_use;
    let trained = model.params.iter().filter(|(_, entry)| entry.trained()).count();
    assert_eq!(step(&model).unwrap(), trained, "every trained parameter gets a gradient");
    let after_first = device.memory();
    assert_eq!(after_first.in_use, parameters, "a step leaves tensors behind");
    for _ in 0..3 {
        step(&model).unwrap();
    }
    assert_eq!(device.memory(), after_first);
}

#[test]
fn too_little_memory_is_an_error_that_names_the_operation() {
    let roomy = Cpu::new(1 << 30);
    let parameters = {
        let model = model(&roomy).unwrap();
        let parameters = roomy.memory().held;
        step(&model).unwrap();
        parameters
    };
    let enough = roomy.memory().held;
    // The limit falls in every part of the step: forward, loss, backward.
    let mut failures = 0;
    for part in 0..24 {
        let device = Cpu::new(parameters + (enough - parameters) * part / 24);
        let model = model(&device).unwrap();
        let before = device.memory().in_use;
        match step(&model) {
            Ok(_) => {}
            Err(Error::OutOfMemory { wanted, free, at }) => {
                failures += 1;
                assert!(wanted > free && !at.is_empty(), "{wanted} wanted, {free} free, at {at:?}");
            }
            Err(other) => panic!("an error of another kind: {other}"),
        }
        assert_eq!(device.memory().in_use, before, "a failed step leaves tensors behind");
    }
    assert!(failures >= 12, "the limits were not tight: {failures} failures");
    assert!(model(&Cpu::new(parameters / 2)).is_err());
}

/// A zone as Linux shows it, its counter at so many microjoules.
fn zone(powercap: &Path, zone: &str, name: &str, counter: u64) {
    let folder = powercap.join(zone);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("name"), format!("{name}\n")).unwrap();
    fs::write(folder.join("max_energy_range_uj"), "10000000\n").unwrap();
    fs::write(folder.join("energy_uj"), format!("{counter}\n")).unwrap();
}

#[test]
fn energy_is_that_of_all_packages_also_when_a_counter_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let set = |first, second| {
        zone(dir.path(), "intel-rapl:0", "package-0", first);
        zone(dir.path(), "intel-rapl:1", "package-1", second);
        zone(dir.path(), "intel-rapl:0:0", "core", 2 * first);
        zone(dir.path(), "intel-rapl:2", "psys", 3 * first);
    };
    set(1_000_000, 9_000_000);
    let mut meter = Meter::of_packages(dir.path());
    assert!(meter.reads());
    set(1_500_000, 9_250_000);
    assert_eq!(meter.lap(), 0.75);
    set(1_500_000, 1_250_000);
    assert_eq!(meter.lap(), 2.0);
    assert_eq!(meter.lap(), 0.0);
    // While one cannot be read nothing is known.
    let counter = dir.path().join("intel-rapl:1/energy_uj");
    fs::remove_file(&counter).unwrap();
    assert!(meter.lap().is_nan());
    set(2_000_000, 1_250_000);
    assert!(meter.lap().is_nan());
    assert_eq!(meter.lap(), 0.0);
    fs::remove_file(counter).unwrap();
    let mut half = Meter::of_packages(dir.path());
    assert!(!half.reads() && half.lap().is_nan());
    assert!(!Meter::of_packages(&dir.path().join("none")).reads());
}
