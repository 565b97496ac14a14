//! Compiles `kernels/` for the CUDA device, and lists the images of `sample/` so that the program carries them.

#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/sample.rs"]
mod sample;

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    sample::build(&root, &out);
    kernels::build(&root, &out);
}
