//! The model card of a run (Mitchell et al. 2019): what whoever gets the weights has to know, in Markdown.

use super::Session;
use crate::{
    data::{Normalise, Split, manifest::hex},
    metrics::Measures,
    task::Task,
};
use sha2::{Digest, Sha256};

impl Session {
    /// The card of the best weights, whose file is `bytes`, and of what they measured.
    pub(super) fn card(&self, bytes: &[u8], summaries: &[(Split, Measures)]) -> String {
        let (config, dataset) = (&self.state.config, &self.prepared.dataset);
        let start = config.weights.as_ref().map_or("random weights".into(), |path| path.display().to_string());
        let best = self.state.best.as_ref().map_or(String::new(), |best| {
            let at = format!("step {} of epoch {}", best.step, best.epoch);
            match config.ema {
                Some(_) => format!("; kept is the average over the steps up to {at}"),
                None => format!("; kept is what {at} left"),
            }
        });
        let scaling = match config.normalise == Normalise::none() {
            true => "intensities from 0 to 1".into(),
            false => {
                format!("intensities v from 0 to 1 as (v − {:?}) / {:?}", config.normalise.mean, config.normalise.std)
            }
        };
        let facts = [
            ("network", format!("{}, {} parameters", config.model, self.model.params.parameter_count())),
            ("for", format!("the task {}, with {} outputs", config.task, self.model.classes)),
            (
                "input",
                format!("{0} × {0} pixels, channels: {1} of the same gray, {scaling}", config.size, config.channels),
            ),
            ("started from", start),
            (
                "trained for",
                format!("{} epochs, {} steps of {} images{best}", self.state.epoch, self.state.step, config.batch),
            ),
            ("data", format!("{}, digest {:.16}", dataset.origin, self.state.data)),
            ("split", self.prepared.split_rule()),
            ("SHA-256", hex(&Sha256::digest(bytes).into())),
            ("licence", "*to be filled in: that of the weights, and of the images they were learnt from*".into()),
        ];
        let mut card = format!("# {} trained on {}\n\n| | |\n|---|---|\n", config.model, dataset.origin);
        facts.iter().for_each(|(name, fact)| card += &format!("| {name} | {fact} |\n"));
        let counts = self.prepared.counts();
        let heads: String = counts.splits.iter().map(|(split, _)| format!(" {split} |")).collect();
        let rule = "---|".repeat(counts.splits.len());
        card += &format!("\n## Images\n\n| class |{heads}\n|---|{rule}\n");
        for (c, class) in counts.classes.iter().enumerate() {
            let cells: String = counts.splits.iter().map(|(_, n)| format!(" {} |", n[c])).collect();
            card += &format!("| {} |{cells}\n", class.replace('|', "\\|").replace('\n', " "));
        }
        self.prepared.warnings.iter().for_each(|warning| card += &format!("\nWarning: {warning}.\n"));
        card += "\n## Result\n";
        summaries.iter().for_each(|(split, measures)| card += &format!("\n{split}\n\n```text\n{measures}\n```\n"));
        card += &format!("\n## Use\n\n{}", self.usage());
        let recipe = toml::to_string(config).expect("a recipe is plain data");
        card + &format!(
            "\nFor research; not a medical device, not for diagnosis.\n\n## Recipe\n\n```toml\n{recipe}```\n"
        )
    }

    /// How to load the weights.
    fn usage(&self) -> String {
        let config = &self.state.config;
        // What torchvision has.
        if config.task != Task::MultiClass || config.channels != 3 || !config.columns.inputs.is_empty() {
            let names = config.columns.inputs.iter().map(|name| name.to_uppercase());
            let inputs = match config.columns.inputs.is_empty() {
                true => String::new(),
                false => format!(" --inputs {}", names.collect::<Vec<_>>().join(",")),
            };
            return format!("```console\n$ roentgen predict best.safetensors IMAGE...{inputs}\n```\n");
        }
        format!(
            "```console\n$ roentgen finetune --weights best.safetensors --model {0} --size {1} --data FOLDER\n```\n\n\
             ```python\nimport torchvision\nfrom safetensors.torch import load_file\n\
             model = torchvision.models.{0}(num_classes={2})\n\
             model.load_state_dict(load_file(\"best.safetensors\"), strict=True)\n```\n",
            config.model, config.size, self.model.classes,
        )
    }
}
