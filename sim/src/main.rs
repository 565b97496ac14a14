//! `roentgen-sim FLAVOUR OUT [KERNEL.cu ...]`: builds the simulator outside cargo's build, in seconds after an edit.

use roentgen_sim::compile::{self, Failure, Flavour};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "usage: roentgen-sim plain|asan|tsan OUT [KERNEL.cu ...]
  plain  OUT/libcuda.so, for cudarc through LD_LIBRARY_PATH
  asan   OUT/replay with AddressSanitizer and UndefinedBehaviorSanitizer
  tsan   OUT/replay with ThreadSanitizer
Without kernels, those of ../kernels and of tests/.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (flavour, out) = match arguments.as_slice() {
        [flavour, out, ..] if flavour == "plain" => (Flavour::Plain, out),
        [flavour, out, ..] if flavour == "asan" => (Flavour::Asan, out),
        [flavour, out, ..] if flavour == "tsan" => (Flavour::Tsan, out),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let sim = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut kernels: Vec<PathBuf> = arguments[2..].iter().map(PathBuf::from).collect();
    if kernels.is_empty() {
        kernels = compile::kernels_in(&sim.join("../kernels"));
        kernels.extend(compile::kernels_in(&sim.join("tests")));
    }
    match compile::build(flavour, sim, &kernels, Path::new(out), |text| eprintln!("{text}")) {
        Ok(product) => {
            println!("{}", product.display());
            ExitCode::SUCCESS
        }
        Err(Failure::NoCompiler(program)) => {
            eprintln!("no C++ compiler: {program} does not run; set CXX");
            ExitCode::FAILURE
        }
        Err(Failure::Compiler(messages)) => {
            eprintln!("{messages}");
            ExitCode::FAILURE
        }
    }
}
