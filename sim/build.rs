//! Compiles the simulator's `libcuda.so` and puts it where cudarc finds it: cargo adds the link-search folders of build scripts
//! to `LD_LIBRARY_PATH` of `cargo test`.

#[path = "src/compile.rs"]
#[allow(dead_code)]
mod compile;

use compile::{Failure, Flavour};
use std::{env, fs, path::PathBuf};

fn main() {
    let sim = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("simlib");
    for path in ["../kernels", "include", "runtime", "tests", "src/compile.rs", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=CXX");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-env=ROENTGEN_SIM_LIBRARY={}", out.join(Flavour::Plain.product()).display());

    // clippy reads and does not run; its build folder is its own, and all would be compiled twice.
    if env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.contains("clippy")) {
        return;
    }
    let mut kernels = compile::kernels_in(&sim.join("../kernels"));
    kernels.extend(compile::kernels_in(&sim.join("tests")));
    let warn = |text: &str| text.lines().for_each(|line| println!("cargo:warning={line}"));
    match compile::build(Flavour::Plain, &sim, &kernels, &out, warn) {
        Ok(_) => {}
        Err(Failure::NoCompiler(program)) => {
            // No library of an earlier build may stand in for this one.
            fs::remove_file(out.join(Flavour::Plain.product())).ok();
            println!(
                "cargo:warning=no C++ compiler ({program}): tests of the CUDA kernels are skipped; set CXX or install g++"
            );
        }
        Err(Failure::Compiler(messages)) => messages.lines().for_each(|line| println!("cargo::error={line}")),
    }
}
