//! Metrics as aligned tables on a terminal.

use std::fmt::{self, Write};

use super::classes::Summary;

/// Stands for a value that does not exist.
pub const DASH: &str = "–";

/// Longest class name shown on a terminal, in characters.
const NAME: usize = 28;

/// `0.9587` as `95.9 %`; a dash if it is not a number.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { DASH.into() }
}

/// `value` with `digits` decimals; a dash if there is none or it is not a number.
pub fn decimals(value: impl Into<Option<f64>>, digits: usize) -> String {
    match value.into() {
        Some(v) if v.is_finite() => format!("{v:.digits$}"),
        _ => DASH.into(),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut accuracy, mut macro_f1) = (percent(self.accuracy), decimals(self.macro_f1, 3));
        if let Some(i) = &self.intervals {
            write!(accuracy, "  (95 % interval {:.1}–{:.1})", 100.0 * i.accuracy.low, 100.0 * i.accuracy.high)?;
            write!(macro_f1, "  (95 % interval {:.3}–{:.3})", i.macro_f1.low, i.macro_f1.high)?;
        }
        let images = if self.samples == 1 { "image" } else { "images" };
        writeln!(f, "accuracy   {accuracy}  over {} {images}; chance {}", self.samples, percent(self.chance))?;
        writeln!(f, "macro F1   {macro_f1}")?;
        writeln!(f, "macro AUC  {}   log loss {}", decimals(self.macro_auc, 3), decimals(self.log_loss, 4))?;
        writeln!(f)?;
        self.write_classes(f)?;
        writeln!(f)?;
        self.write_confusion(f)
    }
}

impl Summary {
    /// One line a class: support, precision, recall, F1, AUC; then their means.
    fn write_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.name_width().max("macro mean".len());
        writeln!(f, "{:width$}  images  precision  recall     F1    AUC", "class")?;
        let mut line = |name: &str, support: String, [precision, recall, f1]: [f64; 3], auc: Option<f64>| {
            let auc = decimals(auc, 3);
            writeln!(f, "{name:width$}  {support:>6}  {precision:>9.3}  {recall:>6.3}  {f1:>5.3}  {auc:>5}")
        };
        for c in &self.classes {
            line(&shorten(&c.name), c.support.to_string(), [c.precision, c.recall, c.f1], c.auc)?;
        }
        let means = [self.macro_precision, self.macro_recall, self.macro_f1];
        line("macro mean", String::new(), means, self.macro_auc)?;
        if !self.without_auc().is_empty() {
            let names: Vec<String> = self.without_auc().into_iter().map(shorten).collect();
            writeln!(
                f,
                "no AUC, left out of its mean (needs samples of the class and of the rest): {}",
                names.join(", ")
            )?;
        }
        Ok(())
    }

    /// The confusion matrix; columns carry the numbers of the rows, so that names of any length fit.
    fn write_confusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.classes.len().to_string().len();
        let heading = "truth \\ predicted";
        let width = (number + 1 + self.name_width()).max(heading.len());
        let largest = self.confusion.0.iter().flatten().max().copied().unwrap_or(0);
        let cell = largest.to_string().len().max(number).max(3);
        write!(f, "{heading:width$}")?;
        (1..=self.classes.len()).try_for_each(|c| write!(f, "  {c:>cell$}"))?;
        for (c, row) in self.confusion.0.iter().enumerate() {
            let name = format!("{:>number$} {}", c + 1, shorten(&self.classes[c].name));
            write!(f, "\n{name:width$}")?;
            row.iter().try_for_each(|count| write!(f, "  {count:>cell$}"))?;
        }
        Ok(())
    }

    fn name_width(&self) -> usize {
        self.classes.iter().map(|c| shorten(&c.name).chars().count()).max().unwrap_or(0)
    }
}

/// `name` cut to the width that a table has for it, control characters shown as `?`.
fn shorten(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_control() { '?' } else { c });
    if name.chars().count() <= NAME { plain.collect() } else { plain.take(NAME - 1).chain(['…']).collect() }
}
