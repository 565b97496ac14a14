//! Reading every image once before hours are spent on the first of them.

use super::{
    decode::{Gray, Pixels},
    intensity::Intensity,
    scan::Scan,
    source::{Dataset, Fingerprint, Record, Skipped},
};
use crate::Result;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

impl Dataset {
    /// Decodes every record with `intensity`, in parallel, and fills in the fingerprints.
    ///
    /// A bad file is an error, the first in order of the records; with `skip_bad` it is taken out of the dataset
    /// and returned instead. A class that loses all its images stays in [`Dataset::classes`]; the split then refuses it.
    pub fn verify(&mut self, intensity: Intensity, skip_bad: bool) -> Result<Vec<Skipped>> {
        let prints: Vec<Result<Fingerprint>> =
            self.records.par_iter().map(|record| fingerprint(record, intensity)).collect();
        if let Some(Err(e)) = prints.iter().find(|print| print.is_err() && !skip_bad) {
            return Err(e.clone());
        }
        let mut skipped = Vec::new();
        let mut kept = Vec::with_capacity(self.records.len());
        for (mut record, print) in std::mem::take(&mut self.records).into_iter().zip(prints) {
            match print {
                Ok(print) => {
                    record.fingerprint = Some(print);
                    kept.push(record);
                }
                Err(e) => skipped.push(Skipped { name: record.name, reason: e.to_string() }),
            }
        }
        self.records = kept;
        Ok(skipped)
    }
}

fn fingerprint(record: &Record, intensity: Intensity) -> Result<Fingerprint> {
    let (bytes, location) = (record.read()?, record.location());
    let scan = Scan::open(&bytes, &location)?;
    let extent = record.source.extent(&scan);
    let image = scan.frame(extent.frame)?.render(intensity, &location)?;
    record.mask(extent)?;
    let mut file = Sha256::new_with_prefix(&bytes);
    for mask in record.mask_sources() {
        file.update(mask.read()?);
    }
    Ok(Fingerprint { file: file.finalize().into(), pixels: digest(&image) })
}

fn digest(image: &Gray) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update((image.width as u64).to_le_bytes());
    match &image.pixels {
        Pixels::U8(values) => sha.update(values),
        Pixels::U16(values) => values.iter().for_each(|v| sha.update(v.to_le_bytes())),
    }
    sha.finalize().into()
}
