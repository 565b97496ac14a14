//! The program with a GPU, through the simulator: that it trains there, and what it says when it cannot.

mod common;

use common::{fail, make_images, roentgen, stderr, succeed};
use roentgen::device::cuda::fatbin::FATBINS;
use std::process::Command;

/// Whether there is a simulator to test with.
fn simulated() -> bool {
    let available = roentgen_sim::available();
    available.inspect_err(|reason| eprintln!("skipped: {reason}")).is_ok()
}

/// One short step of the smallest network.
const BENCH: [&str; 9] = [
    "bench",
    "--model",
    "mobilenet_v3_small",
    "--size=32",
    "--batch=2",
    "--steps=1",
    "--warmup=0",
    "--threads=1",
    "--json",
];

fn bench(device: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = roentgen(BENCH.into_iter().chain(["--device", device]));
    command.envs(environment.iter().copied());
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

#[test]
fn a_run_trains_on_the_gpu_and_is_evaluated_on_the_cpu() {
    if !simulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    make_images(&data, &["a", "b"], 12);
    let (data, run) = (data.to_str().unwrap(), run.to_str().unwrap());
    let recipe =
        "finetune --model mobilenet_v3_small --size 32 --epochs 1 --batch 4 --threads 1 --device cuda:0 --data";
    let said = stderr(&succeed(&mut roentgen(recipe.split(' ').chain([data, "--out", run]))));
    assert!(said.contains("device  roentgen simulator, compute capability 9.0"), "{said}");
    let config = std::fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
    assert!(config.contains("precision = \"bf16\""), "{config}");
    let table = dir.path().join("predictions.csv");
    succeed(&mut roentgen(["evaluate", run, "--device", "cpu", "--threads", "1", "--out", table.to_str().unwrap()]));
    // The run is one of bf16, which the CPU does not compute in.
    fail(&mut roentgen(["finetune", "--resume", run, "--device", "cpu"]), 1, &["bf16"]);
}

#[test]
fn bench_times_every_step_on_the_gpu() {
    if !simulated() {
        return;
    }
    let steps = BENCH.map(|arg| if arg == "--steps=1" { "--steps=4" } else { arg });
    let said = stdout(&mut roentgen(steps.into_iter().chain(["--device", "cuda"])));
    let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let times = line["ms_per_step"].as_array().unwrap();
    assert!(times.len() == 4 && times.iter().all(|ms| ms.as_f64().unwrap() > 0.0), "{line}");
}

#[test]
fn doctor_tells_what_is_there_and_why_the_cpu() {
    if !simulated() {
        return;
    }
    let said = stdout(&mut roentgen(["doctor", "--threads", "1"]));
    for part in
        ["roentgen simulator", "compute capability 9.0", "CUDA 13.0", "device      cpu", "simulator of the tests"]
    {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let said = stdout(roentgen(["doctor"]).env("ROENTGEN_SIM_NO_DEVICE", "1"));
    assert!(said.contains("finds no GPU") && said.contains("--device cpu"), "{said}");
}

#[test]
fn a_gpu_that_cannot_be_used_is_one_clear_error_or_the_cpu() {
    if !simulated() {
        return;
    }
    fail(&mut bench("cuda:3", &[]), 1, &["no GPU 3", "the only one is 0"]);
    fail(&mut bench("gpu", &[]), 2, &["cuda:N"]);
    let cases: [(&[(&str, &str)], &str); 2] = [
        (&[("ROENTGEN_SIM_NO_DEVICE", "1")], "finds no GPU"),
        (&[("ROENTGEN_SIM_DRIVER", "12020")], "supports CUDA 12.2, the kernels need 13.0"),
    ];
    for (environment, words) in cases {
        fail(&mut bench("cuda", environment), 1, &[words]);
        let output = succeed(&mut bench("auto", environment));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("cpu, 1 thread,"));
    }
    if !FATBINS.is_empty() {
        fail(&mut bench("cuda", &[("ROENTGEN_SIM_CAPABILITY", "75")]), 1, &["sm_75", "ROENTGEN_CUDA_ARCHS"]);
    }
    // The simulator is never chosen unasked.
    let output = succeed(&mut bench("auto", &[]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cpu, 1 thread,"));
}

#[test]
fn without_a_driver_the_cpu_is_used_without_a_word() {
    // Without the folder that cargo adds, unless this machine has a driver of its own.
    let without = |device| {
        let mut command = bench(device, &[]);
        command.env_remove("LD_LIBRARY_PATH");
        command
    };
    let output = without("cuda").output().unwrap();
    if output.status.success() {
        return;
    }
    fail(&mut without("cuda"), 1, &["no NVIDIA driver"]);
    let output = succeed(&mut without("auto"));
    assert!(!stderr(&output).contains("NVIDIA"), "{}", stderr(&output));
}

#[test]
fn too_little_memory_is_one_clear_error() {
    if !simulated() {
        return;
    }
    // Enough for the parameters in single precision and as filters, not for a step.
    fail(&mut bench("cuda", &[("ROENTGEN_SIM_MEMORY", "26000000")]), 1, &["out of memory", "MiB wanted"]);
}

#[test]
fn a_step_is_not_recorded_where_no_other_fits_beside_it() {
    if !simulated() {
        return;
    }
    let run = |environment: &[(&str, &str)]| {
        let more = |arg| match arg {
            "--steps=1" => "--steps=4",
            "--size=32" => "--size=64",
            "--batch=2" => "--batch=4",
            other => other,
        };
        let mut command = roentgen(BENCH.map(more).into_iter().chain(["--device", "cuda"]));
        let said = stdout(command.envs(environment.iter().copied()));
        let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        (line["recorded"].as_bool().unwrap(), line["loss"].clone())
    };
    let (recorded, losses) = run(&[]);
    assert!(recorded);
    for bytes in ["36500000", "41000000"] {
        assert_eq!(run(&[("ROENTGEN_SIM_MEMORY", bytes)]), (false, losses.clone()), "{bytes} bytes");
    }
}

#[test]
fn a_precision_that_the_device_lacks_is_one_clear_error() {
    let mut command = bench("cpu", &[]);
    fail(command.args(["--precision", "bf16"]), 1, &["does not compute in bf16", "--precision f32"]);
}
