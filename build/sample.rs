//! `sample.rs` in the output folder: every image of `sample/`, by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Writes the table that `src/sample.rs` includes.
pub fn build(root: &Path, out: &Path) {
    println!("cargo:rerun-if-changed=sample");
    let root = root.join("sample");
    let mut files = vec![];
    list(&root.join("images"), &mut files);
    files.sort();
    let entry = |path: &PathBuf| {
        let name: Vec<_> =
            path.strip_prefix(&root).expect("below it").iter().map(|part| part.to_string_lossy()).collect();
        format!("    ({:?}, include_bytes!({:?})),\n", name.join("/"), path.display().to_string())
    };
    let table: String = files.iter().map(entry).collect();
    fs::write(out.join("sample.rs"), format!("&[\n{table}]\n")).expect("the output folder can be written to");
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
