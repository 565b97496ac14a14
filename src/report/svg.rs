//! Line charts as inline SVG; colours and fonts come from the page's style sheet, so they follow light and dark mode.

use maud::{Markup, html};

/// Size of a chart in its own units; the page scales it.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
/// Room around the plot for tick labels and the legend.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;
/// A linear axis hides all but the largest values beyond this ratio.
const LOG_ABOVE: f64 = 30.0;
/// More points than this are a line without dots.
const MOST_DOTS: usize = 60;

/// A curve, or dots. A point whose y is not finite leaves a gap.
pub struct Line<'a> {
    /// Its name in the legend; empty to leave it out there.
    pub label: &'a str,
    /// Class of the style sheet that colours it.
    pub style: &'static str,
    pub points: Vec<(f64, f64)>,
    /// Whether the points are not joined.
    pub dots: bool,
    /// Its spread as (x, low, high); empty for none.
    pub band: Vec<(f64, f64, f64)>,
}

impl<'a> Line<'a> {
    pub fn curve(label: &'a str, style: &'static str, points: Vec<(f64, f64)>) -> Line<'a> {
        Line { label, style, points, dots: false, band: vec![] }
    }

    pub fn dots(label: &'a str, style: &'static str, points: Vec<(f64, f64)>) -> Line<'a> {
        Line { label, style, points, dots: true, band: vec![] }
    }
}

/// What the x axis counts.
pub enum Axis {
    /// Whole epochs, one of them marked as the best.
    Epochs { best: Option<f64> },
    /// A number of this name.
    Number(&'static str),
    /// Shares of the training images, each named, at equal steps for equal ratios.
    Shares(Vec<f64>),
}

/// A chart of curves over epochs or numbers.
pub struct Chart<'a> {
    pub title: &'a str,
    pub lines: Vec<Line<'a>>,
    pub x: Axis,
    /// Whether widely spread positive values get a logarithmic axis.
    pub may_be_log: bool,
    /// Writes a value of the y axis.
    pub label: fn(f64) -> String,
}

impl Chart<'_> {
    /// The chart, or nothing if it has no point to show.
    pub fn draw(mut self) -> Markup {
        self.lines.retain(|l| l.points.iter().any(|p| p.1.is_finite()));
        let points = || self.lines.iter().flat_map(|l| &l.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        if points().next().is_none() {
            return html! {};
        }
        let (x_low, x_high) = bounds(points().map(|p| p.0));
        let bands = self.lines.iter().flat_map(|l| &l.band).flat_map(|b| [b.1, b.2]).filter(|y| y.is_finite());
        let (y_low, y_high) = bounds(points().map(|p| p.1).chain(bands));
        let log = self.may_be_log && y_low > 0.0 && y_high / y_low > LOG_ABOVE;
        let (y_ticks, y_low, y_high) = if log { log_axis(y_low, y_high) } else { linear_axis(y_low, y_high) };
        let shares = matches!(self.x, Axis::Shares(_));
        let (x_ticks, x_low, x_high, x_name, best) = match self.x {
            Axis::Epochs { best } => (epoch_ticks(x_low, x_high), x_low, x_high, "epoch", best),
            Axis::Number(name) => {
                let (ticks, low, high) = linear_axis(x_low, x_high);
                (ticks, low, high, name, None)
            }
            Axis::Shares(ticks) => {
                let (low, high) = bounds(ticks.iter().copied());
                (ticks, low, high, "training images, %", None)
            }
        };
        let x_label = |x: f64| {
            let text = format!("{:.4}", if shares { 100.0 * x } else { x });
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        };
        let x_scale = |v: f64| if shares { v.ln() } else { v };
        let scale = |v: f64| if log { v.ln() } else { v };
        let x_of = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * share(x_scale(x), x_scale(x_low), x_scale(x_high));
        let y_of = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(scale(y), scale(y_low), scale(y_high));
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);

        html! {
            figure.chart {
                figcaption { (self.title) @if log { span.soft { " (logarithmic)" } } }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                    @for &y in &y_ticks {
                        line.grid x1=(LEFT) x2=(right) y1=(px(y_of(y))) y2=(px(y_of(y))) {}
                        text.tick x=(LEFT - 8.0) y=(px(y_of(y) + 4.0)) text-anchor="end" { ((self.label)(y)) }
                    }
                    @for &x in &x_ticks {
                        text.tick x=(px(x_of(x))) y=(bottom + 17.0) text-anchor="middle" { (x_label(x)) }
                    }
                    line.axis x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
                    text.tick x=((LEFT + right) / 2.0) y=(HEIGHT - 6.0) text-anchor="middle" { (x_name) }
                    @if let Some(best) = best.filter(|b| (x_low..=x_high).contains(b)) {
                        line.best x1=(px(x_of(best))) x2=(px(x_of(best))) y1=(TOP - 4.0) y2=(bottom) {}
                        text.tick x=(px(x_of(best))) y=(TOP - 8.0) text-anchor=(anchor(share(best, x_low, x_high))) {
                            "best " (best)
                        }
                    }
                    @for line in self.lines.iter().filter(|line| !line.band.is_empty()) {
                        path class={ "band " (line.style) } d=(outline(&line.band, x_of, y_of)) {}
                    }
                    @for line in &self.lines {
                        @if !line.dots { path class={ "curve " (line.style) } d=(path(&line.points, x_of, y_of)) {} }
                        @if line.dots || line.points.len() <= MOST_DOTS {
                            @for &(x, y) in line.points.iter().filter(|p| p.1.is_finite()) {
                                circle class={ "dot " (line.style) } cx=(px(x_of(x))) cy=(px(y_of(y))) r="2.6" {
                                    title { (line.label) ", " (x_name) " " (x) ": " ((self.label)(y)) }
                                }
                            }
                        }
                    }
                }
                @if self.lines.len() > 1 {
                    p.legend {
                        @for line in self.lines.iter().filter(|line| !line.label.is_empty()) {
                            span {
                                svg.key viewBox="0 0 24 8" aria-hidden="true" {
                                    path class={ "curve " (line.style) } d="M1 4H23" {}
                                }
                                (line.label)
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A coordinate with a tenth of a unit, to keep the page small.
fn px(v: f64) -> String {
    format!("{v:.1}")
}

/// Where `v` lies between `low` and `high`, as a share; the middle if they are one.
fn share(v: f64, low: f64, high: f64) -> f64 {
    if high > low { (v - low) / (high - low) } else { 0.5 }
}

/// Keeps a label inside the chart when its point lies at an edge.
fn anchor(share: f64) -> &'static str {
    match share {
        s if s < 0.1 => "start",
        s if s > 0.9 => "end",
        _ => "middle",
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Straight pieces between neighbouring points, with a new piece after each gap.
fn path(points: &[(f64, f64)], x_of: impl Fn(f64) -> f64, y_of: impl Fn(f64) -> f64) -> String {
    let mut text = String::new();
    let mut pen_down = false;
    for &(x, y) in points {
        if y.is_finite() {
            text += &format!("{}{:.1} {:.1}", if pen_down { 'L' } else { 'M' }, x_of(x), y_of(y));
        }
        pen_down = y.is_finite();
    }
    text
}

/// The outline of a band: along its upper edge and back along the lower one. Points without a spread are left out.
fn outline(band: &[(f64, f64, f64)], x_of: impl Fn(f64) -> f64, y_of: impl Fn(f64) -> f64) -> String {
    let known = || band.iter().filter(|(_, low, high)| low.is_finite() && high.is_finite());
    let edge = known().map(|&(x, _, high)| (x, high)).chain(known().rev().map(|&(x, low, _)| (x, low)));
    path(&edge.collect::<Vec<_>>(), x_of, y_of) + "Z"
}

/// The largest of 1, 2, 5 times a power of ten that gives at least `count` steps in `span`.
fn step(span: f64, count: f64) -> f64 {
    let ten = 10f64.powf((span / count).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|m| m * ten).find(|s| span / s >= count).unwrap_or(ten)
}

/// Ticks of a linear axis, and its ends on ticks around the data.
fn linear_axis(low: f64, high: f64) -> (Vec<f64>, f64, f64) {
    let span = if high > low { high - low } else { high.abs().max(1e-9) };
    let step = step(span, 3.0);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    let last = last.max(first + 1);
    ((first..=last).map(|i| i as f64 * step).collect(), first as f64 * step, last as f64 * step)
}

/// Ticks at 1, 2 and 5 times powers of ten (powers only over many decades), the axis ending where the data does.
fn log_axis(low: f64, high: f64) -> (Vec<f64>, f64, f64) {
    let digits: &[f64] = if high / low > 1e4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = powers.flat_map(|p| digits.iter().map(move |d| d * 10f64.powi(p)));
    (ticks.filter(|t| (low..=high).contains(t)).collect(), low, high)
}

/// Whole epochs between the ends, at most about eight.
fn epoch_ticks(low: f64, high: f64) -> Vec<f64> {
    let step = step((high - low).max(1.0), 4.0).max(1.0) as usize;
    let (first, last) = (low.ceil() as usize, high.floor() as usize);
    (first..=last).filter(|e| e % step == 0 || step == 1).map(|e| e as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_the_data() {
        assert_eq!(linear_axis(0.0, 1.0), (vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], 0.0, 1.0));
        assert_eq!(linear_axis(3.0, 3.0), (vec![3.0, 4.0], 3.0, 4.0));
        assert_eq!(log_axis(0.9, 60.0).0, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(epoch_ticks(1.0, 3.0), [1.0, 2.0, 3.0]);
        assert_eq!(epoch_ticks(1.0, 40.0), [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
        for (low, high) in [(0.031, 0.97), (-4.0, 1e5), (1e-7, 1e-3), (0.0, 0.0)] {
            let (ticks, first, last) = linear_axis(low, high);
            assert!(first <= low && high <= last && (2..=9).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn equal_ratios_of_shares_are_equal_steps() {
        let lines = vec![Line::curve("", "rate", [0.25, 0.5, 1.0].map(|x| (x, x)).into())];
        let x = Axis::Shares(vec![0.25, 0.5, 1.0]);
        let chart = Chart { title: "", lines, x, may_be_log: false, label: |v| v.to_string() }.draw().into_string();
        let middle = format!("cx=\"{}\"", px((LEFT + WIDTH - RIGHT) / 2.0));
        assert!(chart.contains(&middle), "{middle} is not in {chart}");
    }

    #[test]
    fn gaps_break_the_line() {
        let points = [(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 3.0)];
        assert_eq!(path(&points, |x| x, |y| y), "M1.0 1.0M3.0 2.0L4.0 3.0");
    }
}
