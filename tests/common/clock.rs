//! Time for measurements on a machine that does other work too.

use std::{fs, sync::LazyLock, time::Instant};

/// Seconds that processors have worked for this program, to hundredths, where the system tells (Linux); else those that have passed.
pub fn worked() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let ticks = || -> Option<f64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The fields behind the name, which may hold anything: utime and stime are the 14th and 15th of all.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(str::parse::<f64>);
        Some(fields.next()?.ok()? + fields.next()?.ok()?)
    };
    ticks().map_or_else(|| START.elapsed().as_secs_f64(), |ticks| ticks / 100.0)
}
