//! Which parameters are trained, how fast, with what decay; and what the optimiser remembers of each.

use super::{averages::Averages, config::Config, glob};
use crate::{
    Error, Result,
    device::{Block, DType},
    models::Model,
    nn::{Entry, Id, Kind, Pass},
    ops::optim::{self, Limits, Progress, Rule, Scalars, Update},
    tape::Grads,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The optimiser by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Adam with the decay added to the gradient.
    Adam,
    /// Stochastic gradient descent with momentum 0.9.
    Sgd,
}

impl Optimizer {
    /// Its update rule.
    pub fn rule(self) -> Rule {
        match self {
            Optimizer::AdamW => Rule::ADAMW,
            Optimizer::Adam => Rule::ADAM,
            Optimizer::Sgd => Rule::SGD,
        }
    }
}

/// Loss scale that half precision begins with: large, since it falls in a few steps where it is too large.
const FIRST_SCALE: f64 = 65536.0;
/// Steps without overflow after which the loss scale doubles.
const SCALE_GROWTH: u32 = 2000;

/// An update rule with its state for every trained parameter.
pub struct Optimiser {
    rule: Rule,
    limits: Limits,
    scalars: Scalars,
    /// In the network's order.
    slots: Vec<Slot>,
    averages: Option<Averages>,
}

/// One trained parameter.
struct Slot {
    /// The parameter.
    id: Id,
    /// Its state, in the order of [`Rule::state`].
    state: Vec<Arc<Block>>,
    lr_factor: f64,
    decay: f64,
}

impl Optimiser {
    /// Freezes what `config` says in `model`, and makes the state, all zero, of everything else that is trained.
    ///
    /// # Errors
    /// A pattern that matches no parameter, everything frozen, or a failure of the device.
    pub fn new(model: &mut Model, config: &Config) -> Result<Optimiser> {
        freeze(model, &config.freeze)?;
        for factor in &config.lr_factors {
            check_glob(model, &factor.glob)?;
        }
        let rule = config.optimizer.rule();
        let params = &model.params;
        let trained = params.iter().filter(|(_, entry)| entry.trained());
        let slots: Vec<Slot> = trained
            .map(|(id, entry)| {
                let lr_factor = config.lr_factors.iter().find(|f| glob::matches(&f.glob, &entry.name));
                let decays = config.decay_all || entry.kind == Kind::Weight;
                Ok(Slot {
                    id,
                    state: rule.state().iter().map(|_| zeros_like(model, entry)).collect::<Result<_>>()?,
                    lr_factor: lr_factor.map_or(1.0, |f| f.factor),
                    decay: if decays { config.weight_decay } else { 0.0 },
                })
            })
            .collect::<Result<_>>()?;
        if slots.is_empty() {
            return Err(nothing_to_train());
        }
        let dtype = params.dtype();
        let half = dtype == DType::F16;
        let limits = Limits { clip: config.clip_norm, growth: half.then_some(SCALE_GROWTH) };
        let progress = Progress::new(0, if half { FIRST_SCALE } else { 1.0 });
        let scalars = Scalars::new(&**params.device(), dtype.wide(), progress)?;
        let averages = config.ema.map(|decay| Averages::new(model, decay)).transpose()?;
        Ok(Optimiser { rule, limits, scalars, slots, averages })
    }

    /// The scalars of the next step.
    pub fn scalars(&self) -> &Scalars {
        &self.scalars
    }

    /// What it remembers of each parameter, beside [`Optimiser::scalars`], by name: the state of the rule, and `average`.
    pub fn remembered(&self) -> impl Iterator<Item = (&'static str, Id, &Block)> {
        let states = self
            .slots
            .iter()
            .flat_map(|slot| self.rule.state().iter().zip(&slot.state).map(|(name, block)| (*name, slot.id, &**block)));
        let averages = self.averages.iter().flat_map(Averages::slots);
        states.chain(averages.map(|(id, block)| ("average", *id, &**block)))
    }

    /// Runs `body` with the averages in the place of the values of `model`, if there are any.
    ///
    /// # Errors
    /// Those of `body`; a failure of the device.
    pub fn averaged<R>(&self, model: &Model, body: impl FnOnce() -> Result<R>) -> Result<R> {
        let Some(averages) = &self.averages else { return body() };
        // Before the first step that is not skipped there is nothing to average.
        match self.scalars.progress(&**model.params.device())?.step {
            0.0 => body(),
            _ => averages.instead(model, body),
        }
    }

    /// Moves every parameter that got a gradient, at the rate in [`Optimiser::scalars`]; none if a gradient is not finite.
    /// The gradients are those of the loss times the loss scale. Then the averages take in what came of it.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn update(&self, model: &Model, pass: &Pass, grads: &Grads) -> Result<()> {
        let params = &model.params;
        let updates = self.slots.iter().filter_map(|slot| {
            let gradient = pass.gradient(grads, slot.id)?.block().expect("the backward pass succeeded");
            Some(Update {
                value: params.entry(slot.id).block(),
                state: slot.state.iter().map(|block| &**block).collect(),
                gradient,
                shadow: params.entry(slot.id).shadow().map(|block| &**block),
                lr_factor: slot.lr_factor,
                decay: slot.decay,
            })
        });
        let updates: Vec<Update> = updates.collect();
        optim::update(&**params.device(), self.rule, self.limits, params.dtype(), &self.scalars, &updates)?;
        self.averages.iter().try_for_each(|averages| averages.update(model, &self.scalars))
    }
}

/// As many zeros as `entry` of `model` has values.
pub(super) fn zeros_like(model: &Model, entry: &Entry) -> Result<Arc<Block>> {
    let device = model.params.device();
    let block = device.alloc(entry.block().bytes(), "optimiser state")?;
    device.upload(&vec![0; block.bytes()], &block)?;
    Ok(block)
}

/// Of what is not frozen nothing changes the loss.
pub(super) fn nothing_to_train() -> Error {
    Error::unusable("everything is frozen, so there is nothing to train", "a narrower --freeze")
}

fn freeze(model: &mut Model, globs: &[String]) -> Result<()> {
    for pattern in globs {
        check_glob(model, pattern)?;
        let hit = |(id, entry): (Id, &Entry)| glob::matches(pattern, &entry.name).then_some(id);
        let ids: Vec<Id> = model.params.iter().filter_map(hit).collect();
        ids.into_iter().for_each(|id| model.params.entry_mut(id).frozen = true);
    }
    Ok(())
}

fn check_glob(model: &Model, pattern: &str) -> Result<()> {
    if model.params.iter().any(|(_, entry)| glob::matches(pattern, &entry.name)) {
        return Ok(());
    }
    Err(Error::unusable(
        format!("the pattern {pattern:?} matches no parameter of {}", model.name),
        format!("`roentgen inspect {}` lists their names", model.name),
    ))
}
