//! Lists the images of `sample/` for `src/sample.rs`, so that the program carries them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("sample");
    let mut files = vec![];
    list(&root.join("images"), &mut files);
    files.sort();
    let entry = |path: &PathBuf| {
        let name: Vec<_> =
            path.strip_prefix(&root).expect("below it").iter().map(|part| part.to_string_lossy()).collect();
        format!("    ({:?}, include_bytes!({:?})),\n", name.join("/"), path.display().to_string())
    };
    let table: String = files.iter().map(entry).collect();
    let out = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("sample.rs");
    fs::write(out, format!("&[\n{table}]\n")).expect("the output folder can be written to");
    println!("cargo:rerun-if-changed=sample");
    println!("cargo:rerun-if-changed=build.rs");
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}
