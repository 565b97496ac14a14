//! Patterns over parameter names, for freezing and learning-rate groups.

/// Whether `name` matches `pattern` as a whole; `*` stands for any characters, dots included, `?` for one.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            name.char_indices().map(|(i, _)| i).chain([name.len()]).any(|i| matches(rest, &name[i..]))
        }
        Some(wanted) => name.chars().next().is_some_and(|found| {
            (wanted == '?' || wanted == found) && matches(&pattern[wanted.len_utf8()..], &name[found.len_utf8()..])
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "conv1.weight", true),
            ("layer?.*", "layer3.0.conv1.weight", true),
            ("layer?.*", "fc.weight", false),
            ("*.bias", "fc.bias", true),
            ("*.bias", "fc.biases", false),
            ("fc.weight", "fc.weight", true),
            ("fc", "fc.weight", false),
            ("", "", true),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
