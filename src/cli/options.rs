//! From flags and a TOML file to a [`Config`]: defaults, then the file, then the flags.

use crate::{
    Error, Result,
    data::{Augment, Intensity, Layout, Sampling},
    models,
    task::{Loss, Monitor, Task},
    train::{ClassWeights, Config, Optimizer, Precision, schedule::Course},
};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// The flags of a recipe. Each has the name of its key in `config.toml`.
#[derive(clap::Args, Serialize)]
#[command(next_help_heading = "Recipe")]
pub struct Recipe {
    /// Folder of class folders (or of Training/ and Testing/ with them), of images/ and masks/ for segmentation, or CSV with
    /// the columns path,label[,group][,split][,frame] or those that are named below [default: a small sample inside the program]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Published layout of the data, which also says the task
    #[arg(long, value_name = "NAME", conflicts_with = "task")]
    layout: Option<Layout>,
    /// What to train for [default: multi-class]
    #[arg(long, value_name = "NAME")]
    task: Option<Task>,
    #[arg(long, value_name = "NAME", help = networks())]
    model: Option<String>,
    /// File of weights to start from: safetensors, .pth, .tar.gz with a .pth [default: random weights]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Start from the head of --weights too; by default it starts from random weights
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    copy_head: bool,
    /// Fold the first convolution of --weights to --channels if it has another number
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    fold_stem: bool,
    /// Refuse --weights that do not fill everything but the head, or hold anything else
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    strict: bool,
    /// Side of the square images, in pixels [default: 224; 64 for the sample]
    #[arg(long, value_name = "PX")]
    size: Option<usize>,
    /// Channels of an image: 1, or 3 that are repeated from its gray values [default: 3]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Epochs at most [default: 30; 12 for the sample]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Images in a step [default: 32; 16 for the sample]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Steps in all, dealt to the epochs evenly whatever the size of the data [default: epochs show all images]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    steps: Option<u64>,
    /// How often images come: once an epoch, or every class as often as the largest [default: natural]
    #[arg(long, value_name = "NAME")]
    sampling: Option<Sampling>,
    /// Seed of everything random [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Seed of the drawn splits, to share them between several seeds [default: that of --seed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    split_seed: Option<u64>,
    /// Type of images and activations [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_name = "NAME")]
    precision: Option<Precision>,
    /// Optimiser [default: adamw]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Optimizer>,
    /// Highest learning rate [default: 1e-3]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Course of the learning rate [default: one-cycle]
    #[arg(long, value_name = "NAME")]
    schedule: Option<Course>,
    /// Epochs of linear warm-up, for a constant or cosine schedule [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// Weight decay of convolution and linear weights [default: 0.01]
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// Scale the gradients of a step down to this norm if they are longer [default: no limit]
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
    /// Validate and keep exponential moving averages of the weights, with this decay a step, say 0.999 [default: the weights]
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Loss: bce or focal for yes-or-no answers; mse, l1 or huber for numbers; dice-bce, dice, dice-missed, bce or focal for
    /// masks [default: the first of them]
    #[arg(long, value_name = "NAME")]
    loss: Option<Loss>,
    /// Share of the target spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f32>,
    /// Weights of the classes in the loss [default: none]
    #[arg(long, value_name = "NAME")]
    class_weights: Option<ClassWeights>,
    /// What tells the best epoch: loss, or the task's own [default: macro-f1, auc, mae or dice; loss for the sample and for pretraining]
    #[arg(long, value_name = "NAME")]
    monitor: Option<Monitor>,
    /// Stop after this many epochs without improvement; 0 for never [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<u32>,
    /// Look at the validation split, and keep the best weights, after this share of an epoch [default: 1]
    #[arg(long, value_name = "SHARE")]
    validate_every: Option<f64>,
    /// Leave parameters as they are whose names match, say 'layer1.*'; may be given several times
    #[arg(long, value_name = "GLOB")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    freeze: Vec<String>,
    /// Leave unreadable images out instead of refusing the data
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    skip_bad: bool,
    /// Take images out of training whose picture is also in validation or test
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    drop_copies: bool,
    /// Leave out classes with fewer images than this; the RadiologyNET study has 20 [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32))]
    min_images: Option<u32>,
    /// Share of the training images to use, the same of every class, groups whole [default: 1]
    #[arg(long, value_name = "SHARE")]
    train_fraction: Option<f64>,
    #[command(flatten)]
    #[serde(skip)]
    columns: ColumnFlags,
    /// Share of the images drawn for validation, unless the data give it; 0 for none [default: 0.15]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip)]
    validation: Option<f64>,
    /// Share of the images drawn for the test, unless the data give splits; 0 for none [default: 0.15]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip)]
    test: Option<f64>,
    /// How stored values become gray: auto, stored, window, window:CENTER,WIDTH, range:LOW,HIGH (HU for CT),
    /// percentile:LOW,HIGH, min-max, z-score, or study [default: auto]
    #[arg(long, value_name = "RULE", value_parser = intensity)]
    intensity: Option<Intensity>,
    /// Scaling of pixel values: none, or imagenet for weights pretrained there [default: none]
    #[arg(long, value_name = "NAME", value_parser = ["none", "imagenet"], hide_possible_values = true)]
    normalise: Option<String>,
    /// Vary training images as by default, whatever the file says
    #[arg(long, overrides_with = "no_augment")]
    #[serde(skip)]
    augment: bool,
    /// Do not vary training images
    #[arg(long)]
    #[serde(skip)]
    no_augment: bool,
}

/// The flags that say which columns of a table mean what.
#[derive(clap::Args, Serialize)]
#[command(next_help_heading = "Columns of a CSV")]
struct ColumnFlags {
    /// Path of the image, relative to the CSV's folder [default: path]
    #[arg(long, value_name = "COLUMN")]
    path: Option<String>,
    /// Class, labels (names joined by '|', or a column of 0 and 1 for each) or numbers; commas between several
    /// [default: label]
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target: Vec<String>,
    /// What must not straddle splits, say a patient [default: group, if there is one]
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// Number of the frame in a file of several; '' if no column says it [default: frame or slice, if there is one]
    #[arg(long, value_name = "COLUMN")]
    frame: Option<String>,
    /// The split [default: split, if there is one]
    #[arg(long = "split-column", value_name = "COLUMN")]
    split: Option<String>,
    /// Numbers that the network is given beside the image (true/false, yes/no and m/f are 1/0)
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    /// Masks of a structure, a column a rater; may be given once for each structure
    #[arg(long, value_name = "[NAME=]COLUMN,...")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masks: Vec<String>,
    /// Raters who must have marked a pixel [default: 1]
    #[arg(long, value_name = "N")]
    agree: Option<usize>,
    /// Use only rows with one of these values in a column, say 'modality=CT,MR'; may be given several times
    #[arg(long = "where", value_name = "COLUMN=VALUE,...")]
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    only: Vec<String>,
    /// The class whose probability a binary network gives [default: the last by name]
    #[arg(long, value_name = "CLASS")]
    positive: Option<String>,
}

fn networks() -> String {
    let names: Vec<_> = models::names().collect();
    format!(
        "Network: {}; or one of them with unet_ before it, for masks and images [default: resnet18]",
        names.join(", ")
    )
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// An intensity rule from a flag.
pub fn intensity(text: &str) -> std::result::Result<Intensity, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

impl Recipe {
    /// Uses only rows for which `condition` holds too.
    pub fn narrow(&mut self, condition: String) {
        self.columns.only.push(condition);
    }

    /// The configuration: the defaults for what is chosen, overlaid by `file`, overlaid by the flags.
    ///
    /// # Errors
    /// A file that cannot be read or has an unknown key, or a value that cannot be used.
    pub fn resolve(&self, file: Option<&Path>, defaults: impl FnOnce(&Table) -> Result<Config>) -> Result<Config> {
        let config = self.unchecked(file, defaults)?;
        config.check()?;
        let about_weights = [(self.copy_head, "copy-head"), (self.fold_stem, "fold-stem"), (self.strict, "strict")];
        if let (None, Some((_, flag))) = (&config.weights, about_weights.iter().find(|(given, _)| *given)) {
            return Err(Error::unusable(format!("--{flag} is about weights, and none are named"), "--weights FILE"));
        }
        Ok(config)
    }

    /// The same, whose values need not go together: enough to open the data.
    pub fn unchecked(&self, file: Option<&Path>, defaults: impl FnOnce(&Table) -> Result<Config>) -> Result<Config> {
        let file = file.map(read).transpose()?;
        Config::layered(file.into_iter().chain([self.table()?]), defaults)
    }

    /// What the flags set.
    fn table(&self) -> Result<Table> {
        let unusable = |e| Error::unusable(format!("the flags cannot be used: {e}"), "paths in UTF-8");
        let mut table = Table::try_from(self).map_err(unusable)?;
        let augment = match (self.augment, self.no_augment) {
            (true, _) => Some(Augment::default()),
            (_, true) => Some(Augment::none()),
            _ => None,
        };
        if let Some(augment) = augment {
            table.insert("augment".into(), Value::try_from(augment).expect("plain data"));
        }
        let columns = Table::try_from(&self.columns).map_err(unusable)?;
        if !columns.is_empty() {
            table.insert("columns".into(), Value::Table(columns));
        }
        let shares = [("validation", self.validation), ("test", self.test)];
        let shares: Table = shares.into_iter().filter_map(|(key, share)| Some((key.into(), share?.into()))).collect();
        if !shares.is_empty() {
            table.insert("split".into(), Value::Table(shares));
        }
        Ok(table)
    }

    /// The flags that were given, by their keys.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn given(&self) -> Result<Vec<String>> {
        Ok(self.table()?.keys().cloned().collect())
    }
}

/// The table in a configuration file.
fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let unusable = |e: toml::de::Error| {
        Error::unusable(
            format!("the configuration {} cannot be used: {}", path.display(), e.to_string().trim_end()),
            "docs/recipe.md, which lists all keys",
        )
    };
    // Read as a whole recipe first: that names unknown keys and wrong types with their line.
    toml::from_str::<Config>(&text).map_err(unusable)?;
    toml::from_str(&text).map_err(unusable)
}
