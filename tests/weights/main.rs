//! Weights from files that PyTorch wrote (`scripts/make_weight_fixtures.py`), into networks, and out again.

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod names;
mod reading;

use serde_json::Value;
use std::{fs, path::PathBuf};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/tests/fixtures/weights/{name}", env!("CARGO_MANIFEST_DIR")))
}

/// What is in the fixtures, by the name of the file.
fn expected() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(fixture("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
