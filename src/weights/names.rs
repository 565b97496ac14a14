//! From the names in files to those of a network.

/// What wrappers put before the names of the network they hold: parallel training, compilation, a field of a class, a U-Net.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "encoder."];

/// The names by which an entry of a network may be meant where a file says `name`, the likeliest first, each with the
/// rule that leads to it; the first is `name` itself, by no rule.
///
/// Beside the prefixes these are the rules of RadiologyNET's published transfer code, the one by which torchvision renames
/// DenseNet's oldest weights, and that of a backbone in a U-Net.
pub(super) fn candidates(name: &str) -> Vec<(String, String)> {
    let mut all = vec![(name.to_string(), String::new())];
    all.push((format!("model.{name}"), "with model.".into()));
    if name.contains("features") {
        all.push((name.replace("features", "model"), "features as model".into()));
    }
    let mut bare = name;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = shorter;
        all.push((bare.to_string(), format!("without {}", &name[..name.len() - bare.len()])));
    }
    if let Some(piece) = name.split("model.").nth(1) {
        all.push((piece.to_string(), "after model.".into()));
    }
    let under = |first: &str, rule: &str| match rule {
        "" => first.to_string(),
        rule => format!("{first} and {rule}"),
    };
    let old: Vec<_> =
        all.iter().filter_map(|(name, rule)| Some((joined(name)?, under("norm.1 as norm1", rule)))).collect();
    all.extend(old);
    let encoder: Vec<_> =
        all.iter().map(|(name, rule)| (format!("encoder.{name}"), under("with encoder.", rule))).collect();
    all.extend(encoder);
    all
}

/// `name` with the number behind a layer of DenseNet joined to it: `denselayer2.norm.1.weight` is `denselayer2.norm1.weight`.
fn joined(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let layer = parts.iter().rposition(|part| part.starts_with("denselayer"))?;
    match parts[layer + 1..] {
        [kind @ ("norm" | "relu" | "conv"), number @ ("1" | "2"), last] => {
            Some(format!("{}.{kind}{number}.{last}", parts[..=layer].join(".")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn wrappers_and_old_names_lead_to_torchvisions() {
        for (name, wanted, rule) in [
            ("fc.bias", "fc.bias", ""),
            ("module.fc.bias", "fc.bias", "without module."),
            ("module._orig_mod.model.fc.bias", "fc.bias", "without module._orig_mod.model."),
            ("net.model.fc.bias", "fc.bias", "after model."),
            ("module.conv1.weight", "encoder.conv1.weight", "with encoder. and without module."),
            ("encoder.conv1.weight", "conv1.weight", "without encoder."),
            ("features.0.0.weight", "model.0.0.weight", "features as model"),
            ("conv1.weight", "model.conv1.weight", "with model."),
            (
                "features.denseblock1.denselayer2.norm.1.weight",
                "features.denseblock1.denselayer2.norm1.weight",
                "norm.1 as norm1",
            ),
            (
                "module.features.denseblock1.denselayer16.conv.2.weight",
                "features.denseblock1.denselayer16.conv2.weight",
                "norm.1 as norm1 and without module.",
            ),
        ] {
            let found = candidates(name);
            let found = found.iter().find(|(candidate, _)| candidate == wanted);
            assert_eq!(found.map(|(_, by)| by.as_str()), Some(rule), "{name}");
        }
        let found = candidates("features.transition1.norm.weight");
        assert!(found.iter().all(|(name, _)| name.ends_with(".norm.weight")), "a norm without a number is no old name");
    }
}
