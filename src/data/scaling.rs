//! Numbers beside images, as a network wants them: around 0, with a spread of 1.

use serde::{Deserialize, Serialize};

/// Mean and standard deviation of each of some numbers, over the training images; none for numbers that stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Subtracted, a number each.
    pub mean: Vec<f64>,
    /// Divided by, a number each.
    pub std: Vec<f64>,
}

impl Scaling {
    /// That of `rows` of so many numbers. A number that never varies is only shifted.
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, numbers: usize) -> Scaling {
        let n = rows.clone().count().max(1) as f64;
        let mean_of = |f: &dyn Fn(&[f32]) -> f64| rows.clone().map(f).sum::<f64>() / n;
        let mean: Vec<f64> = (0..numbers).map(|i| mean_of(&|row| f64::from(row[i]))).collect();
        let spread = |i: usize| mean_of(&|row| (f64::from(row[i]) - mean[i]).powi(2)).sqrt();
        let std = (0..numbers).map(spread).map(|std| if std > 0.0 { std } else { 1.0 }).collect();
        Scaling { mean, std }
    }

    /// Whether numbers stay as they are.
    pub fn is_none(&self) -> bool {
        self.mean.is_empty()
    }

    /// A row of numbers, scaled.
    pub fn apply<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        row.iter().enumerate().map(|(i, &x)| match self.is_none() {
            true => x,
            false => ((f64::from(x) - self.mean[i]) / self.std[i]) as f32,
        })
    }

    /// Number `i` of a row, scaled back.
    pub fn undo(&self, i: usize, x: f64) -> f64 {
        if self.is_none() { x } else { x * self.std[i] + self.mean[i] }
    }
}

#[cfg(test)]
mod tests {
    use super::Scaling;

    #[test]
    fn rows_are_centred_and_come_back() {
        let rows: [[f32; 2]; 4] = [[1.0, 7.0], [3.0, 7.0], [5.0, 7.0], [7.0, 7.0]];
        let scaling = Scaling::of(rows.iter().map(|row| &row[..]), 2);
        assert_eq!((&scaling.mean[..], &scaling.std[..]), (&[4.0, 7.0][..], &[5.0f64.sqrt(), 1.0][..]));
        let scaled: Vec<f32> = scaling.apply(&rows[3]).collect();
        assert_eq!(scaled, [(3.0 / 5.0f64.sqrt()) as f32, 0.0]);
        assert!((scaling.undo(0, f64::from(scaled[0])) - 7.0).abs() < 1e-6);
        assert_eq!(Scaling::default().apply(&rows[1]).collect::<Vec<_>>(), rows[1]);
    }
}
