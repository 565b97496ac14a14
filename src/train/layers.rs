//! Recipes in layers: each gives some keys, later ones over earlier.

use super::Config;
use crate::{Error, Result, task::Task};
use serde::Deserialize;
use toml::{Table, Value};

impl Config {
    /// The recipe that `layers` make, over the `defaults` for what they choose. Each must be a part of a recipe, as reading it as a
    /// whole [`Config`] tells.
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
