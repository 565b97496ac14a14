//! The energy that a device draws, by counters of its own.

use std::{
    fs, mem,
    path::Path,
    time::{Duration, Instant},
};

/// Counters of processors begin anew after some minutes at full load; they are looked at this often.
const INTERVAL: Duration = Duration::from_secs(30);

/// Adds up what the counters of a device say. They count the whole device, whoever uses it.
pub struct Meter {
    counters: Vec<Counter>,
    joules: f64,
    looked: Instant,
}

/// A counter of energy that only rises, but for beginning anew.
pub struct Counter {
    read: Box<dyn Fn() -> Option<f64> + Send>,
    range: f64,
    last: f64,
}

impl Counter {
    /// One that `read` gives in joules, and that begins anew at `range`; `None` if it cannot be read.
    pub fn new(range: f64, read: impl Fn() -> Option<f64> + Send + 'static) -> Option<Counter> {
        let last = read()?;
        Some(Counter { read: Box::new(read), range, last })
    }

    /// Joules since the last call; NaN if it could not be read then or now.
    fn advance(&mut self) -> f64 {
        let now = (self.read)().unwrap_or(f64::NAN);
        let joules = now - mem::replace(&mut self.last, now);
        if joules < 0.0 { joules + self.range } else { joules }
    }
}

impl Meter {
    /// One of these counters together, from now on.
    pub fn new(counters: Vec<Counter>) -> Meter {
        Meter { counters, joules: 0.0, looked: Instant::now() }
    }

    /// One of the processor packages that Linux shows in `powercap`, the folder `/sys/class/powercap`: RAPL, of Intel's and AMD's
    /// processors. Most machines let root alone read it, and virtual ones have none.
    pub fn of_packages(powercap: &Path) -> Meter {
        let zones = fs::read_dir(powercap).into_iter().flatten().flatten().map(|entry| entry.path());
        let package = |zone: &Path| {
            // Parts of a package are zones too, and some machines show one of the whole platform.
            fs::read_to_string(zone.join("name")).is_ok_and(|name| name.starts_with("package"))
        };
        let microjoules = |zone: &Path, file: &str| {
            let text = fs::read_to_string(zone.join(file)).ok()?;
            Some(text.trim().parse::<f64>().ok()? / 1e6)
        };
        let counters = zones.filter(|zone| package(zone)).map(|zone| {
            let range = microjoules(&zone, "max_energy_range_uj")?;
            Counter::new(range, move || microjoules(&zone, "energy_uj"))
        });
        // A package that cannot be read would be missing from the sum.
        Meter::new(counters.collect::<Option<_>>().unwrap_or_default())
    }

    /// Whether there is a counter.
    pub fn reads(&self) -> bool {
        !self.counters.is_empty()
    }

    /// Looks at the counters if that was long ago; to be called every few minutes at least.
    pub fn keep_up(&mut self) {
        if self.looked.elapsed() >= INTERVAL {
            self.look();
        }
    }

    /// Joules since the last call; NaN if they are not known.
    pub fn lap(&mut self) -> f64 {
        self.look();
        let joules = if self.reads() { self.joules } else { f64::NAN };
        self.joules = 0.0;
        joules
    }

    fn look(&mut self) {
        self.joules += self.counters.iter_mut().map(Counter::advance).sum::<f64>();
        self.looked = Instant::now();
    }
}
