//! Recipes in layers: each gives some keys, later ones over earlier.

use super::Config;
use toml::{Table, Value};

impl Config {
    /// The recipe that `layers` make, over the defaults: those for the sample if no layer names data. Each layer must be a part
    /// of a recipe, as reading it as a whole [`Config`] tells.
    pub fn layered(layers: impl IntoIterator<Item = Table>) -> Config {
        let mut chosen = Table::new();
        layers.into_iter().for_each(|layer| overlay(&mut chosen, layer));
        let base = if chosen.contains_key("data") { Config::default() } else { Config::for_sample() };
        let mut table = Table::try_from(base).expect("a recipe is plain data");
        overlay(&mut table, chosen);
        table.try_into().expect("every layer is part of a recipe")
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
