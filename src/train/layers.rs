//! Recipes in layers: each gives some keys, later ones over earlier.

use super::Config;
use crate::{Error, Result, data::Normalise, task::Task};
use serde::Deserialize;
use toml::{Table, Value};

impl Config {
    /// The recipe that `layers` make, over the `defaults` for what they choose. Each must be a part of a recipe, as reading it as a
    /// whole [`Config`] tells. A preset of `normalise` is that for the model ([`Normalise::preset`]).
    ///
    /// # Errors
    /// Those of the defaults.
    pub fn layered(
        layers: impl IntoIterator<Item = Table>,
        defaults: impl FnOnce(&Table) -> Result<Config>,
    ) -> Result<Config> {
        let mut chosen = Table::new();
        layers.into_iter().for_each(|layer| overlay(&mut chosen, layer));
        let mut table = Table::try_from(defaults(&chosen)?).expect("a recipe is plain data");
        overlay(&mut table, chosen);
        if let (Some(Value::String(preset)), Some(model)) = (table.get("normalise"), table.get("model")) {
            let normalise = Normalise::preset(preset, model.as_str().unwrap_or_default())?;
            table.insert("normalise".into(), Value::try_from(normalise).expect("plain data"));
        }
        Ok(table.try_into().expect("every layer is part of a recipe"))
    }

    /// The defaults of fine-tuning beside what is `chosen`.
    ///
    /// # Errors
    /// None; as [`Config::pretraining_defaults`].
    pub fn finetuning_defaults(chosen: &Table) -> Result<Config> {
        Ok(if chosen.contains_key("data") { Config::default() } else { Config::for_sample() })
    }

    /// The defaults of pretraining beside what is `chosen`.
    ///
    /// # Errors
    /// A task that there is not.
    pub fn pretraining_defaults(chosen: &Table) -> Result<Config> {
        let task = chosen.get("task").map_or(Ok(Task::default()), |name| Task::deserialize(name.clone()));
        let task = task.map_err(|e| Error::unusable(format!("the task cannot be used: {e}"), "--task"))?;
        let model = chosen.get("model").and_then(Value::as_str);
        Ok(match chosen.contains_key("data") {
            true => Config::for_pretraining(model, task),
            false => Config::for_pretraining_on_sample(model, task),
        })
    }
}

/// Puts `upper` over `lower`, table by table.
fn overlay(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => overlay(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_that_for_the_network() {
        let layer = |text: &str| toml::from_str::<Table>(text).unwrap();
        let of = |model: &str| {
            let layers = [layer("normalise = 'imagenet'"), layer(&format!("model = '{model}'"))];
            Config::layered(layers, Config::finetuning_defaults).unwrap().normalise
        };
        assert_eq!(of("resnet50"), Normalise::imagenet());
        for inception in ["inception_v3", "unet_inception_v3"] {
            // As torchvision's transform_input makes of images that are normalised for ImageNet.
            let Normalise { mean, std } = of(inception);
            let Normalise { mean: m, std: s } = Normalise::imagenet();
            for (v, c) in [0.0f32, 0.3, 1.0].into_iter().flat_map(|v| (0..3).map(move |c| (v, c))) {
                let transformed = (v - m[c]) / s[c] * (s[c] / 0.5) + (m[c] - 0.5) / 0.5;
                assert!((transformed - (v - mean[c]) / std[c]).abs() < 1e-6);
            }
        }
        assert!(toml::from_str::<Config>("normalise = 'imagenet'").is_ok());
        assert!(toml::from_str::<Config>("normalise = 'image'").is_err());
        let values = "mean = [0.5, 0.5, 0.5], std = [1, 1, 1]";
        assert!(toml::from_str::<Config>(&format!("normalise = {{ {values} }}")).is_ok());
        assert!(toml::from_str::<Config>(&format!("normalise = {{ {values}, gamma = 1 }}")).is_err());
    }
}
