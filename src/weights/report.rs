//! What became of the tensors of a file, and of the entries of a network.

use super::{Archive, Transfer};
use crate::{Error, Result};

/// What [`super::load_matching`] did with each name.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    /// Set from the file: the name there, the name in the network, and the rule that led from one to the other; empty
    /// where they are the same.
    pub copied: Vec<(String, String, String)>,
    /// In the file a second time, with the same values: the name that was not used, and the one that was.
    pub doubled: Vec<(String, String)>,
    /// In the file, but not used.
    pub skipped: Vec<Skipped>,
    /// Not in the file, left as initialised; and whether it belongs to the head.
    pub unfilled: Vec<(String, bool)>,
    /// Counters that are not in the file, as in none that is older than PyTorch 0.4.1; left at zero.
    pub uncounted: Vec<String>,
}

/// A tensor that was not used.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Its name in the file.
    pub name: String,
    /// Why not.
    pub reason: String,
    /// Whether it belongs to the head.
    pub head: bool,
}

/// Lines of one kind in the short form of the table.
const FEW: usize = 10;

impl Matched {
    pub(super) fn skip(&mut self, name: &str, reason: impl Into<String>, head: bool) {
        self.skipped.push(Skipped { name: name.into(), reason: reason.into(), head });
    }

    /// Refuses what must not pass in silence.
    pub(super) fn check(&self, archive: &Archive, transfer: Transfer) -> Result<()> {
        let shown = archive.path.display();
        if self.copied.is_empty() {
            let example = archive.tensors.keys().next().map_or("nothing".into(), |name| format!("{name}, for one"));
            return Err(Error::unusable(
                format!("{shown} has no tensor of this network; it holds {example}"),
                "weights of the same --model; `roentgen weights inspect FILE` lists what is there",
            ));
        }
        if !transfer.strict {
            return Ok(());
        }
        let counts = |head: bool| transfer.copy_head || !head;
        let skipped = self.skipped.iter().find(|skipped| counts(skipped.head));
        let skipped = skipped.map(|Skipped { name, reason, .. }| format!("{name} {reason}"));
        let unfilled =
            self.unfilled.iter().find(|(_, head)| counts(*head)).map(|(name, _)| format!("{name} is missing"));
        match unfilled.or(skipped) {
            None => Ok(()),
            Some(problem) => Err(Error::unusable(
                format!("{shown} does not fit the network: {problem}"),
                "to take what fits leave --strict out, or in a study say strict = false in the recipe of the arm; \
                 `roentgen weights inspect FILE --model NAME` lists all",
            )),
        }
    }

    /// The numbers of all kinds.
    pub fn summary(&self) -> String {
        let renamed = self.copied.iter().filter(|(.., rule)| !rule.is_empty()).count();
        let (skipped, unfilled) = (self.skipped.len(), self.unfilled.len() + self.uncounted.len());
        let mut text = format!("{} tensors copied", self.copied.len());
        for (count, what) in [(renamed, "of them renamed"), (self.doubled.len(), "doubled")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        format!("{text}, {skipped} skipped, {unfilled} unfilled")
    }

    /// One line a tensor.
    pub fn table(&self) -> Vec<String> {
        let copied = self.copied.iter().map(|(from, to, rule)| match rule.as_str() {
            "" => format!("copied    {to}"),
            rule if from == to => format!("copied    {to} ({rule})"),
            rule => format!("renamed   {from} to {to} ({rule})"),
        });
        copied.chain(self.others().into_iter().flatten()).collect()
    }

    /// The table with the copied tensors by rule, and the first of each other kind.
    pub fn short_table(&self) -> Vec<String> {
        let mut rules: Vec<(&str, Vec<(&str, &str)>)> = vec![];
        for (from, to, rule) in self.copied.iter().filter(|(.., rule)| !rule.is_empty()) {
            match rules.iter_mut().find(|(known, _)| known == rule) {
                Some((_, names)) => names.push((from, to)),
                None => rules.push((rule, vec![(from, to)])),
            }
        }
        let by_rule = |(rule, names): (&str, Vec<(&str, &str)>)| match names[..] {
            [(from, to)] if from == to => format!("copied    {to} ({rule})"),
            [(from, to)] => format!("renamed   {from} to {to} ({rule})"),
            [(from, to), ..] => format!("renamed   {} tensors ({rule}), as {from} to {to}", names.len()),
            [] => unreachable!("a rule is listed with its first names"),
        };
        let mut lines: Vec<_> = rules.into_iter().map(by_rule).collect();
        for mut others in self.others() {
            let more = others.len().saturating_sub(FEW);
            // To list one fewer takes as many lines as to say so.
            if more > 1 {
                others.truncate(FEW);
                let kind = others[0].split(' ').next().unwrap_or_default().to_string();
                others.push(format!("{kind:9} and {more} more: roentgen weights inspect FILE --model NAME lists them"));
            }
            lines.extend(others);
        }
        lines
    }

    /// Lines of all that was not copied, by kind.
    fn others(&self) -> [Vec<String>; 4] {
        let doubled = |(name, first): &(String, String)| format!("doubled   {name}, the same as {first}");
        let skipped = |Skipped { name, reason, .. }: &Skipped| format!("skipped   {name}: {reason}");
        let unfilled = |(name, _): &(String, bool)| format!("unfilled  {name}");
        let uncounted = match self.uncounted.len() {
            0 => vec![],
            count => vec![format!("unfilled  {count} counters of batches, which files of PyTorch before 0.4.1 lack")],
        };
        [
            self.doubled.iter().map(doubled).collect(),
            self.skipped.iter().map(skipped).collect(),
            self.unfilled.iter().map(unfilled).collect(),
            uncounted,
        ]
    }
}
