//! How two sets of tensors differ.

use super::{Tensors, Values};

/// What [`diff`] finds.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Names that only the first has.
    pub only_first: Vec<String>,
    /// Names that only the second has.
    pub only_second: Vec<String>,
    /// Names whose tensors have other shapes, or floats in one and whole numbers in the other; the shapes.
    pub unlike: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names whose tensors have the same shape and not all the same values.
    pub differing: Vec<Difference>,
    /// Number of tensors with the same values.
    pub same: usize,
}

/// How the values of two tensors differ. Two values that are not numbers are taken for the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The name of both.
    pub name: String,
    /// Values that differ.
    pub count: usize,
    /// Values there are.
    pub len: usize,
    /// Largest |a − b|; infinite where one is not a number.
    pub absolute: f64,
    /// Largest |a − b| / max(|a|, |b|).
    pub relative: f64,
}

/// Compares the tensors of `a` and `b` by name.
pub fn diff(a: &Tensors, b: &Tensors) -> Diff {
    let mut diff = Diff {
        only_first: a.keys().filter(|name| !b.contains_key(*name)).cloned().collect(),
        only_second: b.keys().filter(|name| !a.contains_key(*name)).cloned().collect(),
        ..Diff::default()
    };
    for (name, first) in a {
        let Some(second) = b.get(name) else { continue };
        let difference = match (&first.values, &second.values) {
            _ if first.shape != second.shape => None,
            (Values::F32(a), Values::F32(b)) => Some(difference(name, a, b, f64::from)),
            (Values::I64(a), Values::I64(b)) => Some(difference(name, a, b, |x| x as f64)),
            _ => None,
        };
        match difference {
            None => diff.unlike.push((name.clone(), first.shape.clone(), second.shape.clone())),
            Some(Difference { count: 0, .. }) => diff.same += 1,
            Some(difference) => diff.differing.push(difference),
        }
    }
    diff
}

fn difference<T: Copy + PartialEq>(name: &str, a: &[T], b: &[T], wide: impl Fn(T) -> f64) -> Difference {
    let mut difference = Difference { name: name.into(), count: 0, len: a.len(), absolute: 0.0, relative: 0.0 };
    for (&a, &b) in a.iter().zip(b) {
        let (x, y) = (wide(a), wide(b));
        if a == b || (x.is_nan() && y.is_nan()) {
            continue;
        }
        let number = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
        difference.count += 1;
        difference.absolute = difference.absolute.max(number((x - y).abs()));
        difference.relative = difference.relative.max(number((x - y).abs() / x.abs().max(y.abs())));
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::{Difference, diff};
    use crate::weights::{Stored, Tensors, Values};

    #[test]
    fn each_kind_of_difference_is_found() {
        let tensor = |values: &[f32]| Stored { shape: vec![values.len()], values: Values::F32(values.into()) };
        let tensors = |list: &[(&str, &[f32])]| -> Tensors {
            list.iter().map(|(name, values)| (name.to_string(), tensor(values))).collect()
        };
        let a =
            tensors(&[("a", &[1.0]), ("s", &[1.0, f32::NAN]), ("u", &[1.0]), ("v", &[1.0, -4.0, 3.0]), ("w", &[1.0])]);
        let b = tensors(&[
            ("b", &[1.0]),
            ("s", &[1.0, f32::NAN]),
            ("u", &[1.0; 2]),
            ("v", &[2.0, 4.0, 3.0]),
            ("w", &[f32::NAN]),
        ]);
        let found = diff(&a, &b);
        assert_eq!((found.only_first, found.only_second, found.same), (vec!["a".into()], vec!["b".into()], 1));
        assert_eq!(found.unlike, [("u".to_string(), vec![1], vec![2])]);
        let expected = |name: &str, count, len, absolute, relative| Difference {
            name: name.into(),
            count,
            len,
            absolute,
            relative,
        };
        let infinite = f64::INFINITY;
        assert_eq!(found.differing, [expected("v", 2, 3, 8.0, 2.0), expected("w", 1, 1, infinite, infinite)]);
    }
}
