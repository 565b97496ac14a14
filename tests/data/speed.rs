//! A measurement, not a test: `cargo test --release --test data -- --ignored --nocapture`

use roentgen::data::{Augment, Dataset, Fractions, Loader, LoaderOptions, Split, split};
use std::time::Instant;

#[test]
#[ignore = "a measurement, not a test"]
fn images_per_second() {
    let Some(root) = crate::brain_mri() else { return };
    let mut dataset = Dataset::open(&root).unwrap();
    let start = Instant::now();
    dataset.verify(false).unwrap();
    println!("verify: {:.0} images/s", dataset.records.len() as f64 / start.elapsed().as_secs_f64());
    split::assign(&mut dataset, &Fractions::default(), 1).unwrap();
    for workers in [0, 1, 2] {
        let options = LoaderOptions { augment: Augment::default(), shuffle: true, workers, ..Default::default() };
        let loader = Loader::new(dataset.subset(Split::Train), options);
        for (epoch, state) in ["cold", "cached"].into_iter().enumerate() {
            let start = Instant::now();
            let images: usize = loader.epoch(epoch as u32, 0).map(|batch| batch.unwrap().len()).sum();
            println!("{workers} workers, {state}: {:.0} images/s", images as f64 / start.elapsed().as_secs_f64());
        }
    }
}
