//! Small made-up datasets, the program run on them, and the GPU.
#![allow(dead_code)]

pub mod cases;
pub mod runs;

use roentgen::{
    device::{Device, cuda::Cuda},
    rng::{Purpose, Rng},
};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

/// The GPU, or the simulator of one that cargo puts in the way of the tests, with memory that is checked; `None`, having
/// said why, if there is neither. With `REQUIRE_SIM` in the environment that is a failure, with `ROENTGEN_UNCHECKED` memory is left
/// to a tool that looks for what nobody wrote.
pub fn gpu() -> Option<Arc<dyn Device>> {
    let unchecked = std::env::var_os("ROENTGEN_UNCHECKED").is_some();
    match if unchecked { Cuda::new(0) } else { Cuda::checked(0) } {
        Ok(device) => Some(device),
        Err(e) => {
            assert!(std::env::var_os("REQUIRE_SIM").is_none(), "{e}");
            eprintln!("skipped: {e}");
            None
        }
    }
}

/// Side of the images.
pub const SIZE: usize = 32;

/// Writes an 8-bit gray PNG.
pub fn write_png(path: &Path, size: usize, pixels: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), size as u32, size as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
}

/// Makes `folder/<class>/<n>.png`, `per_class` of each: noisy stripes whose direction is the class.
pub fn make_images(folder: &Path, classes: &[&str], per_class: usize) {
    for (c, class) in classes.iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..per_class {
            let mut rng = Rng::new(5, Purpose::Test, c as u32, i as u32);
            let phase = rng.below(8) as usize;
            let pixels: Vec<u8> = (0..SIZE * SIZE)
                .map(|p| {
                    let (y, x) = (p / SIZE, p % SIZE);
                    let along = [x, y, x + y][c % 3] + phase;
                    (if along % 8 < 4 { 200.0 } else { 40.0 } + 40.0 * rng.uniform()) as u8
                })
                .collect();
            write_png(&folder.join(class).join(format!("{i:03}.png")), SIZE, &pixels);
        }
    }
}

/// The program, with these arguments.
pub fn roentgen<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roentgen"));
    command.args(args);
    command
}

/// Arguments of a quick training run on `data` into `out`.
pub fn quick<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    let recipe = "finetune --model mobilenet_v3_small --size 32 --epochs 3 --batch 8 --threads 2 --data";
    recipe.split(' ').chain([data, "--out", out]).collect()
}

/// What the program said on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it and panics with what it said unless it succeeds.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed: {}", stderr(&output));
    output
}

/// Runs it and panics unless it fails as a program should: exit code `code`, one error that has all of `words` and a
/// remedy, no panic.
#[track_caller]
pub fn fail(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?} said: {said}");
    assert!(!said.contains("panicked"), "{command:?} panicked: {said}");
    assert_eq!(said.matches("error: ").count(), 1, "{command:?} said: {said}");
    for word in words.iter().chain(if code == 1 { &["try: "][..] } else { &[] }) {
        assert!(said.contains(word), "{command:?} does not say {word:?}: {said}");
    }
}
