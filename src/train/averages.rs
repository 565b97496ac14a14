//! Exponential moving averages of what training moves (Polyak and Juditsky 1992), to be looked at and kept in its place.

use super::optimiser::zeros_like;
use crate::{
    Result,
    device::Block,
    models::Model,
    nn::{Id, Kind},
    ops::optim::{self, Scalars},
};
use std::sync::Arc;

/// The averages over steps of a network's trained parameters and running statistics ([`optim::average`]).
pub struct Averages {
    decay: f64,
    slots: Vec<(Id, Arc<Block>)>,
}

impl Averages {
    /// Averages over no step yet.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn new(model: &Model, decay: f64) -> Result<Averages> {
        let moved = model.params.iter().filter(|(_, entry)| entry.trained() || entry.kind == Kind::Buffer);
        let slots = moved.map(|(id, entry)| Ok((id, zeros_like(model, entry)?))).collect::<Result<_>>()?;
        Ok(Averages { decay, slots })
    }

    /// The averages, in the network's order.
    pub fn slots(&self) -> &[(Id, Arc<Block>)] {
        &self.slots
    }

    /// Takes in the values that the step of `scalars` has left, unless it was skipped.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn update(&self, model: &Model, scalars: &Scalars) -> Result<()> {
        let params = &model.params;
        let pairs: Vec<(&Block, &Block)> =
            self.slots.iter().map(|(id, average)| (&**average, &**params.entry(*id).block())).collect();
        optim::average(&**params.device(), self.decay, scalars, &pairs)
    }

    /// Runs `body` with the averages, of which there must be some, in the place of the values.
    ///
    /// # Errors
    /// Those of `body`; a failure of the device.
    pub fn instead<R>(&self, model: &Model, body: impl FnOnce() -> Result<R>) -> Result<R> {
        let params = &model.params;
        let mut values = vec![];
        for (id, average) in &self.slots {
            values.push(params.get(*id)?);
            params.set(*id, &params.read(*id, average)?)?;
        }
        let done = body();
        self.slots.iter().zip(&values).try_for_each(|((id, _), values)| params.set(*id, values))?;
        done
    }
}
