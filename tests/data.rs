//! The path from files to batches.

use roentgen::data::*;
use std::path::Path;

#[test]
#[ignore = "a measurement, not a test: cargo test --release --test data -- --ignored --nocapture"]
fn images_per_second() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/brain_tumor_mri");
    let root = if root.exists() { root } else { "/work/shared/data/brain_tumor_mri".into() };
    let mut dataset = Dataset::open(&root).unwrap();
    let start = std::time::Instant::now();
    let skipped = dataset.verify(false).unwrap();
    println!(
        "verify: {:.0} images/s, {} skipped",
        dataset.records.len() as f64 / start.elapsed().as_secs_f64(),
        skipped.len()
    );
    split::assign(&mut dataset, &Fractions::default(), 1).unwrap();
    println!("{:?}", Split::ALL.map(|s| dataset.class_counts(Some(s))));
    println!("{:#?}", split::warnings(&dataset));
    for workers in [0, 1, 2] {
        let options = LoaderOptions { augment: Augment::default(), shuffle: true, workers, ..Default::default() };
        let loader = Loader::new(dataset.subset(Split::Train), options);
        for epoch in 0..2 {
            let start = std::time::Instant::now();
            let n: usize = loader.epoch(epoch, 0).map(|b| b.unwrap().len()).sum();
            println!("{workers} workers, epoch {epoch}: {:.0} images/s", n as f64 / start.elapsed().as_secs_f64());
        }
    }
}
