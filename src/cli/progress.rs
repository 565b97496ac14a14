//! How training shows itself: one live line on a terminal, plain lines elsewhere.

use super::output::say;
use crate::{
    metrics::decimals,
    report::EpochRecord,
    train::{Observer, StepProgress},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Time between plain lines within an epoch.
const PLAIN_INTERVAL: Duration = Duration::from_secs(60);

/// Prints training to stderr.
pub struct Progress {
    epochs: u32,
    /// The live line; `None` where stderr is no terminal.
    bar: Option<ProgressBar>,
    last_line: Instant,
    rate: Rate,
}

impl Progress {
    /// For a run of `epochs` epochs and `steps` steps in all, of which `done` are done.
    pub fn new(epochs: u32, steps: u64, done: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps).with_position(done);
            let style =
                ProgressStyle::with_template("{msg}  {wide_bar}  {percent} %  ETA {eta}").expect("a fixed text");
            bar.with_style(style)
        });
        if let Some(bar) = &bar {
            bar.reset_eta();
        }
        Progress { epochs, bar, last_line: Instant::now(), rate: Rate::default() }
    }

    fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Takes the live line away.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, p: &StepProgress) {
        let rate = decimals(self.rate.after(p.images), 1);
        let text = format!(
            "epoch {}/{}  step {}/{}  {rate} images/s  loss {:.4}  lr {:.2e}",
            p.epoch, self.epochs, p.step, p.steps, p.loss, p.lr
        );
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(text);
            }
            None if self.last_line.elapsed() > PLAIN_INTERVAL => self.line(&text),
            None => {}
        }
    }

    fn interim(&mut self, (step, steps): (usize, usize), record: &EpochRecord, best: bool) {
        let place = format!("epoch {:>2}/{}  step {step}/{steps}", record.epoch, self.epochs);
        self.line(&format!("{place}{}{}", validation(record), if best { "  best" } else { "" }));
        self.rate = Rate::default();
    }

    fn epoch(&mut self, record: &EpochRecord, best: bool) {
        let text = format!(
            "epoch {:>2}/{}  loss {:.4}{}  {:.1} images/s  {:.1} s{}",
            record.epoch,
            self.epochs,
            record.train_loss,
            validation(record),
            record.images_per_second,
            record.seconds,
            if best { "  best" } else { "" }
        );
        self.line(&text);
        // Validation takes time in which nothing is trained.
        self.rate = Rate::default();
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }
}

/// What the validation split said, if there is one.
fn validation(record: &EpochRecord) -> String {
    let Some(loss) = record.validation_loss else { return String::new() };
    let measured = record.measured().into_iter().map(|(name, value)| format!(", {name} {value}"));
    format!("  validation loss {loss:.4}{}", measured.collect::<String>())
}

/// Images a second, smoothed over about ten steps.
#[derive(Default)]
struct Rate {
    last: Option<Instant>,
    seconds_per_image: Option<f64>,
}

impl Rate {
    /// The rate after a step of so many images; `None` after the first.
    fn after(&mut self, images: usize) -> Option<f64> {
        let now = self.last.replace(Instant::now())?.elapsed().as_secs_f64() / images as f64;
        let smooth = self.seconds_per_image.map_or(now, |old| 0.9 * old + 0.1 * now);
        self.seconds_per_image = Some(smooth);
        Some(1.0 / smooth)
    }
}
