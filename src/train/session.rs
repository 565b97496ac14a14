//! A run in memory, from its beginning or a checkpoint to its end.

use super::{
    Best, Checkpoint, Config, Head, Objective, Observer, Optimiser, Outcome, Partial, Precision, Prepared, RunFolder,
    RunState, StepProgress, Verified, checkpoint,
    schedule::Schedule,
    step::{self, StepResult, Steps},
};
use crate::{
    Error, Result,
    data::{Loader, Split},
    device::{Device, energy::Meter},
    metrics::{Measures, Predictions},
    models::Model,
    report::{EpochRecord, Interim},
    task::Monitor,
    weights::{self, Archive, Matched},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Training goes on for at least so many times as long as saving took before it is saved again.
const BETWEEN_SAVES: u32 = 20;

/// A run in memory.
pub struct Session {
    /// Its folder.
    pub folder: RunFolder,
    /// Its data.
    pub prepared: Prepared,
    /// Its network.
    pub model: Model,
    /// Where it is.
    pub state: RunState,
    /// What each completed epoch measured.
    pub history: Vec<EpochRecord>,
    optimiser: Optimiser,
    steps: Steps,
    schedule: Schedule,
    training: Loader,
    validation: Option<Loader>,
    meter: Meter,
    saved: Option<Saved>,
    pub(super) workers: usize,
}

impl Session {
    /// Begins a run in `folder`. Also tells what became of `config.weights`, if given.
    ///
    /// # Errors
    /// Anything about the data, the weights, the recipe or the device that cannot work.
    pub fn begin(
        config: Config,
        folder: RunFolder,
        device: &Arc<dyn Device>,
        workers: usize,
    ) -> Result<(Session, Option<Matched>)> {
        let config = config.resolved()?;
        Session::begin_on(Verified::read(&config)?, config, folder, device, workers)
    }

    /// The same on data that have been read already.
    ///
    /// # Errors
    /// As [`Session::begin`].
    pub fn begin_on(
        data: Verified,
        config: Config,
        folder: RunFolder,
        device: &Arc<dyn Device>,
        workers: usize,
    ) -> Result<(Session, Option<Matched>)> {
        let mut config = config.resolved()?;
        let prepared = Prepared::of(data, &config, None)?;
        let classes = prepared.dataset.classes.clone();
        let precision = Precision::resolve(config.precision, &**device)?;
        config.precision = Some(precision);
        let state = RunState::new(config, classes, prepared.scalings(), prepared.fingerprint.clone());
        let model = state.network(device, precision.dtype())?;
        let matched = match &state.config.weights {
            Some(path) => Some(weights::load_matching(&model.params, &Archive::read(path)?, state.config.transfer())?),
            None => None,
        };
        let mut session = Session::new(folder, prepared, model, state, vec![], workers)?;
        session.folder.start(&session.state.config, &session.prepared.assigned)?;
        Ok((session, matched))
    }

    /// Takes up the run that `checkpoint`, the last of `folder`, belongs to. Its recipe counts, with the data where
    /// `checkpoint.state.config.data` says.
    ///
    /// # Errors
    /// As [`Session::begin`]; data or a network that are not those of the checkpoint.
    pub fn resume(
        checkpoint: &Checkpoint,
        folder: RunFolder,
        device: &Arc<dyn Device>,
        workers: usize,
    ) -> Result<Session> {
        Session::resume_on(Verified::read(&checkpoint.state.config)?, checkpoint, folder, device, workers)
    }

    /// The same on data that have been read already.
    ///
    /// # Errors
    /// As [`Session::resume`].
    pub fn resume_on(
        data: Verified,
        checkpoint: &Checkpoint,
        folder: RunFolder,
        device: &Arc<dyn Device>,
        workers: usize,
    ) -> Result<Session> {
        let mut state = checkpoint.state.clone();
        // A killed run may have kept a better epoch since it was last saved; it is the best whether or not it comes again.
        if let Some(kept) = Checkpoint::open(&folder.best()).ok().and_then(|kept| kept.state.best)
            && state.best.as_ref().is_none_or(|best| best.step < kept.step)
        {
            state.best = Some(kept);
        }
        // Another precision would be another run.
        Precision::resolve(state.config.precision, &**device)?;
        let prepared = Prepared::of(data, &state.config, Some(&folder.manifest()))?.unchanged(&state)?;
        let model = checkpoint.model(device)?;
        let history = folder.read_history(state.epoch)?;
        let session = Session::new(folder, prepared, model, state, history, workers)?;
        checkpoint.restore_optimiser(&session.model, &session.optimiser)?;
        Ok(session)
    }

    fn new(
        folder: RunFolder,
        prepared: Prepared,
        mut model: Model,
        state: RunState,
        history: Vec<EpochRecord>,
        workers: usize,
    ) -> Result<Session> {
        let config = &state.config;
        model.check_size(config.size)?;
        let training = prepared.training_loader(&state, workers);
        if training.records().len() < 2 {
            return Err(Error::unusable("there is only one training image", "more data"));
        }
        let steps = training.batches() as u64;
        let schedule = Schedule {
            course: config.schedule,
            rate: config.lr,
            least: config.lr_min,
            total: config.steps.unwrap_or(steps * u64::from(config.epochs)),
            warmup: (config.warmup * steps as f64).round() as u64,
        };
        let objective = Objective::new(config, &prepared.dataset)?;
        let validation = prepared.loader(Split::Validation, &state, workers);
        let optimiser = Optimiser::new(&mut model, config)?;
        let steps = Steps::new(objective, config.seed);
        let meter = model.params.device().meter();
        Ok(Session {
            folder,
            prepared,
            model,
            state,
            history,
            optimiser,
            steps,
            schedule,
            training,
            validation,
            meter,
            saved: None,
            workers,
        })
    }

    /// Trains to the end, or until `interrupt` is raised; then finishes the steps under way and saves.
    ///
    /// # Errors
    /// A diverging loss, an image that has become unreadable, a checkpoint that cannot be written, a failure of the device.
    /// The last checkpoint on disk stays whole.
    pub fn train(&mut self, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<Outcome> {
        // What was drawn before is not training's.
        self.meter.lap();
        while !self.state.over() {
            let (stop, end) = (self.next_validation(), self.epoch_end());
            let validated = match self.steps_to(stop, observer, interrupt)? {
                Outcome::Complete => self.validate(interrupt)?,
                Outcome::Interrupted => None,
            };
            if observer.is_dispossessed() {
                return Ok(Outcome::Interrupted);
            }
            let Some(validation) = validated else {
                self.save_last()?;
                return Ok(Outcome::Interrupted);
            };
            match validation {
                Some(validation) if stop < end => self.note_interim(validation, observer)?,
                validation => self.close_epoch(validation, observer)?,
            }
        }
        if self.state.out_of_patience() && self.state.epoch < self.state.config.epochs {
            observer.note(&format!("no improvement in {} epochs: stopped", self.state.config.patience));
        }
        Ok(Outcome::Complete)
    }

    /// Steps of the epoch under way. The last of a run of given steps has what is left of them.
    fn epoch_end(&self) -> usize {
        let steps = self.training.batches();
        (self.schedule.total - u64::from(self.state.epoch) * steps as u64).min(steps as u64) as usize
    }

    /// The step of the epoch under way after which the validation split is looked at next.
    fn next_validation(&self) -> usize {
        let every = (self.state.config.validate_every * self.training.batches() as f64).round().max(1.0) as usize;
        match &self.validation {
            Some(_) => self.epoch_end().min((self.state.partial.interim.len() + 1) * every),
            None => self.epoch_end(),
        }
    }

    /// The steps of the epoch under way up to step `stop`.
    fn steps_to(&mut self, stop: usize, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<Outcome> {
        let (start, before) = (Instant::now(), self.state.partial.seconds);
        let (epoch, done, steps) = (self.state.epoch, self.state.step_in_epoch, self.epoch_end());
        let Session { model, state, optimiser, steps: run, schedule, training, meter, .. } = self;
        let batches = (state.step..).zip(training.epoch(epoch, done).take(stop - done));
        let batches = batches.map(|(step, batch)| Ok((batch?, (step, schedule.at(step)))));
        let mut outcome = Outcome::Complete;
        run.train_each(model, optimiser, batches, |StepResult { loss, right, images }| {
            let lr = schedule.at(state.step);
            state.step += 1;
            state.step_in_epoch += 1;
            state.partial.loss += loss * images as f64;
            state.partial.right += right;
            state.partial.images += images as u64;
            state.partial.seconds = before + start.elapsed().as_secs_f64();
            meter.keep_up();
            observer.step(&StepProgress {
                epoch: epoch + 1,
                step: state.step_in_epoch,
                steps,
                images,
                loss: state.partial.loss / state.partial.images as f64,
                lr,
            });
            if interrupt.load(Ordering::Relaxed) {
                outcome = Outcome::Interrupted;
            }
            outcome == Outcome::Complete
        })?;
        state.partial.joules += meter.lap();
        Ok(outcome)
    }

    /// Metrics on the validation split, if there is one; `None` if interrupted.
    fn validate(&self, interrupt: &AtomicBool) -> Result<Option<Option<Validation>>> {
        let start = Instant::now();
        let Some(loader) = &self.validation else { return Ok(Some(None)) };
        let (head, objective) = (Head::of(&self.state), self.steps.objective());
        let scored = self
            .optimiser
            .averaged(&self.model, || step::validate(&self.model, loader, &head, objective, interrupt))?;
        Ok(scored.map(|(mut predictions, loss)| {
            let thresholds = match &mut predictions {
                Predictions::Labels(scores) => {
                    scores.thresholds = scores.best_thresholds();
                    scores.thresholds.clone()
                }
                _ => vec![],
            };
            let measures = predictions.measures(None);
            Some(Validation { measures, loss, thresholds, seconds: start.elapsed().as_secs_f64() })
        }))
    }

    /// Records a look at the validation split within an epoch, and saves if it is time.
    fn note_interim(&mut self, validation: Validation, observer: &mut dyn Observer) -> Result<()> {
        let at = (self.state.step_in_epoch, self.epoch_end());
        let mut record = EpochRecord { epoch: self.state.epoch + 1, ..EpochRecord::default() };
        record.note(&validation.measures, validation.loss);
        let monitored = record.monitored(self.state.config.monitor()?);
        let better = self.judge(&record, validation.thresholds)?;
        let partial = &mut self.state.partial;
        let loss = record.validation_loss.unwrap_or(f64::NAN);
        partial.interim.push(Interim { step: at.0, loss, monitored });
        partial.interim_seconds += validation.seconds;
        partial.joules += self.meter.lap();
        if better {
            self.save_best()?;
        }
        self.save_if_due()?;
        observer.interim(at, &record, better);
        Ok(())
    }

    /// Whether `record` is the best so far, which is then remembered.
    fn judge(&mut self, record: &EpochRecord, thresholds: Vec<f64>) -> Result<bool> {
        let (monitor, state) = (self.state.config.monitor()?, &mut self.state);
        let better = improves(monitor, record, state.best.as_ref());
        if better {
            let value = record.monitored(monitor).filter(|value| value.is_finite());
            state.best = Some(Best { epoch: record.epoch, step: state.step, value, thresholds });
        }
        Ok(better)
    }

    /// Records the epoch, moves on to the next, and saves if it is time or the last.
    fn close_epoch(&mut self, validation: Option<Validation>, observer: &mut dyn Observer) -> Result<()> {
        let state = &mut self.state;
        let partial = std::mem::take(&mut state.partial);
        let joules = partial.joules + self.meter.lap();
        state.epoch += 1;
        state.step_in_epoch = 0;
        let mut record = EpochRecord {
            epoch: state.epoch,
            train_loss: partial.loss / partial.images as f64,
            train_accuracy: state.config.task.has_classes().then(|| partial.right as f64 / partial.images as f64),
            learning_rate: self.schedule.at(state.step - 1),
            interim: partial.interim,
            seconds: partial.seconds + partial.interim_seconds + validation.as_ref().map_or(0.0, |v| v.seconds),
            joules: joules.is_finite().then_some(joules),
            images_per_second: partial.images as f64 / partial.seconds,
            ..EpochRecord::default()
        };
        let mut thresholds = vec![];
        if let Some(validation) = validation {
            record.note(&validation.measures, validation.loss);
            thresholds = validation.thresholds;
        }
        let better = self.judge(&record, thresholds)?;
        self.history.push(record);
        self.folder.write_history(&self.history)?;
        if better {
            self.save_best()?;
        }
        if self.state.over() { self.save_last() } else { self.save_if_due() }?;
        observer.epoch(&self.history[self.history.len() - 1], better);
        Ok(())
    }

    /// Keeps the weights as the best; of the epoch under way nothing is kept with them.
    fn save_best(&self) -> Result<()> {
        let state = RunState { partial: Partial::default(), ..self.state.clone() };
        self.optimiser.averaged(&self.model, || checkpoint::save(&self.folder.best(), &self.model, None, &state))
    }

    fn save_last(&mut self) -> Result<()> {
        let start = Instant::now();
        checkpoint::save(&self.folder.last(), &self.model, Some(&self.optimiser), &self.state)?;
        self.saved = Some(Saved { at: Instant::now(), took: start.elapsed() });
        Ok(())
    }

    /// Saves unless it was done a moment ago: where epochs are shorter than saving, a run would do little else.
    fn save_if_due(&mut self) -> Result<()> {
        match &self.saved {
            Some(saved) if saved.at.elapsed() < BETWEEN_SAVES * saved.took => Ok(()),
            _ => self.save_last(),
        }
    }

    /// Rate of every step of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Steps in an epoch.
    pub fn steps(&self) -> usize {
        self.training.batches()
    }
}

/// When the run was last saved to go on from, and how long that took.
struct Saved {
    at: Instant,
    took: Duration,
}

/// What the validation split said after an epoch.
struct Validation {
    measures: Measures,
    loss: f64,
    thresholds: Vec<f64>,
    seconds: f64,
}

/// Whether `record` is better than the best so far. Of equals the first stays; what is no number is better than nothing only; without
/// a validation split the latest is the best.
fn improves(monitor: Monitor, record: &EpochRecord, best: Option<&Best>) -> bool {
    match (record.monitored(monitor), best) {
        (Some(value), Some(best)) if value.is_finite() => best.value.is_none_or(|best| monitor.improves(value, best)),
        (value, best) => value.is_none() || best.is_none(),
    }
}
