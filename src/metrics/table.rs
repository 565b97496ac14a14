//! Metrics as aligned tables on a terminal.

use std::fmt::{self, Write};

use super::{ImageSummary, Interval, LabelSummary, MaskSummary, Measured, NumberSummary, classes::Summary};

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
        writeln!(f, "accuracy   {accuracy}  over {}; chance {}", images(self.samples), percent(self.chance))?;
        writeln!(f, "macro F1   {macro_f1}")?;
        writeln!(f, "macro AUC  {}   log loss {}", decimals(self.macro_auc, 3), decimals(self.log_loss, 4))?;
        writeln!(f)?;
        self.write_classes(f)?;
        writeln!(f)?;
        self.write_confusion(f)
    }
}

/// ` (low–high)`, or nothing without an interval.
fn range(interval: Option<Interval>, digits: usize) -> String {
    interval.map_or(String::new(), |i| format!(" ({:.digits$}–{:.digits$})", i.low, i.high))
}

fn with_range(m: &Measured, digits: usize) -> String {
    decimals(m.value, digits) + &range(m.interval, digits)
}

/// `1 image`, `2 images`.
pub fn images(n: usize) -> String {
    format!("{n} image{}", if n == 1 { "" } else { "s" })
}

/// A table whose first column is aligned on the left, the others on the right.
fn aligned(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        write!(f, "\n{:width$}", row[0], width = widths[0])?;
        row.iter().zip(&widths).skip(1).try_for_each(|(cell, &width)| write!(f, "  {cell:>width$}"))?;
    }
    Ok(())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_string).into()
}

impl fmt::Display for LabelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "accuracy   {}  over {}", percent(self.accuracy), images(self.samples))?;
        writeln!(
            f,
            "AUC        {}   average precision {}",
            decimals(self.macro_auc, 3),
            decimals(self.macro_average_precision, 3)
        )?;
        writeln!(f, "log loss   {}", decimals(self.log_loss, 4))?;
        let mut rows = vec![row([
            "label",
            "positive",
            "AUC (95 %)",
            "AP",
            "threshold",
            "sensitivity",
            "specificity",
            "precision",
            "F1",
            "ECE",
        ])];
        rows.extend(self.labels.iter().map(|l| {
            let shares = [l.threshold, l.sensitivity, l.specificity, l.precision, l.f1, l.ece];
            let auc = decimals(l.auc, 3) + &range(l.auc_interval, 3);
            let first = [shorten(&l.name), l.positives.to_string(), auc, decimals(l.average_precision, 3)];
            first.into_iter().chain(shares.map(|share| decimals(share, 3))).collect()
        }));
        aligned(f, &rows)
    }
}

impl fmt::Display for NumberSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "over {}; in brackets 95 % intervals; chance is always naming the mean", images(self.samples))?;
        let mut rows = vec![row(["number", "MAE", "chance", "RMSE", "R²", "bias", "limits of agreement"])];
        rows.extend(self.numbers.iter().map(|n| {
            let [low, high] = n.limits.map(|limit| decimals(limit, 2));
            vec![
                shorten(&n.name),
                with_range(&n.mae, 2),
                decimals(n.chance, 2),
                with_range(&n.rmse, 2),
                with_range(&n.r2, 3),
                decimals(n.bias, 2),
                format!("{low} to {high}"),
            ]
        }));
        aligned(f, &rows)
    }
}

impl fmt::Display for MaskSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "over {}; in brackets 95 % intervals; where both masks are empty Dice and IoU are 1, where one is 0",
            images(self.samples)
        )?;
        let heads = ["structure", "shown in", "Dice", "Dice where shown", "IoU", "HD95 (pixels)", "no HD95"];
        let mut rows = vec![row(heads)];
        rows.extend(self.structures.iter().map(|s| {
            vec![
                shorten(&s.name),
                s.present.to_string(),
                with_range(&s.dice, 3),
                decimals(s.dice_present, 3),
                with_range(&s.iou, 3),
                decimals(s.hd95, 2),
                s.without_hd95.to_string(),
            ]
        }));
        aligned(f, &rows)
    }
}

impl fmt::Display for ImageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "over {}; in brackets 95 % intervals; in the units of the network's input", images(self.samples))?;
        let rows = [
            row(["MAE", "RMSE", "PSNR (dB)"]),
            row([&with_range(&self.mae, 4), &with_range(&self.rmse, 4), &with_range(&self.psnr, 2)]),
        ];
        aligned(f, &rows)
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
