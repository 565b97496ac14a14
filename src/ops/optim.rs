//! Optimisers: a constant number of launches updates every parameter, and nothing of a step's state is on the host, so
//! that a recorded step never changes.
//!
//! A step is three kernels: squares of all gradients, one small kernel that turns their sum into what the step does with
//! it (skip, clip, unscale, count), and the rule itself.

use crate::{
    Result,
    device::{Args, Block, DType, Device, Grid, Kernel, Launch, Real, cpu::parallel},
    kernel,
};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The update rule. Rates and decay are those of the parameter group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum Rule {
    /// v ← momentum·v + (g + decay·w), w ← w − lr·v (PyTorch's SGD; v starts as the first gradient).
    Sgd {
        /// Share of the old direction.
        momentum: f64,
    },
    /// Adam (Kingma and Ba 2015) with the decay added to the gradient.
    Adam {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
}

impl Rule {
    /// SGD with momentum 0.9.
    pub const SGD: Rule = Rule::Sgd { momentum: 0.9 };
    /// Adam with the usual constants.
    pub const ADAM: Rule = Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// AdamW with the usual constants.
    pub const ADAMW: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    /// Names of the state that each parameter has beside its value, all zero before the first step.
    pub fn state(self) -> &'static [&'static str] {
        match self {
            Rule::Sgd { .. } => &["momentum"],
            Rule::Adam { .. } | Rule::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    fn kernel(self) -> &'static Kernel {
        match self {
            Rule::Sgd { .. } => &SGD,
            Rule::Adam { .. } => &ADAM,
            Rule::AdamW { .. } => &ADAMW,
        }
    }

    /// The constants that its kernel reads.
    fn constants(self) -> [f64; 3] {
        match self {
            Rule::Sgd { momentum } => [momentum, 0.0, 0.0],
            Rule::Adam { beta1, beta2, eps } | Rule::AdamW { beta1, beta2, eps } => [beta1, beta2, eps],
        }
    }
}

/// One parameter in an update.
pub struct Update<'a> {
    /// Its value, changed in place.
    pub value: &'a Block,
    /// Its optimiser state, changed in place, in the order of [`Rule::state`].
    pub state: Vec<&'a Block>,
    /// Its gradient.
    pub gradient: &'a Block,
    /// Its value rounded to the type that images are stored in, rewritten, where kernels read that.
    pub shadow: Option<&'a Block>,
    /// Factor on the learning rate.
    pub lr_factor: f64,
    /// Weight decay.
    pub decay: f64,
}

/// What keeps a step from doing harm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Largest norm of all gradients together; longer ones are scaled down to it (Pascanu et al. 2013).
    pub clip: Option<f64>,
    /// Steps without overflow after which the loss scale doubles; it halves at an overflow. `None` leaves it at 1.
    pub growth: Option<u32>,
}

/// What a step is told and what it remembers, on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Progress {
    /// Steps done; skipped ones do not count.
    pub step: f64,
    /// Factor on the loss, so that small gradients do not vanish in half precision.
    pub scale: f64,
    /// Steps since the scale last changed.
    pub clean: f64,
    /// Steps skipped because a gradient was not finite.
    pub skipped: f64,
    /// Norm of the last step's gradients, unscaled.
    pub norm: f64,
    /// 1 if the step is done, 0 if it is skipped.
    apply: f64,
    /// What each gradient is multiplied by: unscaling and clipping.
    factor: f64,
    /// 1 / (1 − beta1ˢᵗᵉᵖ) and 1 / (1 − beta2ˢᵗᵉᵖ).
    unbias: [f64; 2],
    /// Learning rate of the step.
    lr: f64,
}

impl Progress {
    /// After `step` steps, with this loss scale.
    pub fn new(step: u64, scale: f64) -> Progress {
        Progress { step: step as f64, scale, ..Progress::zeroed() }
    }
}

/// A step's scalars on a device.
pub struct Scalars {
    rate: Arc<Block>,
    progress: Arc<Block>,
    loss_scale: Arc<Block>,
    dtype: DType,
}

impl Scalars {
    /// Scalars for parameters of type `dtype`.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn new(device: &dyn Device, dtype: DType, progress: Progress) -> Result<Scalars> {
        let block = |bytes| device.alloc(bytes, "optimiser");
        let scalars = Scalars {
            rate: block(size_of::<f64>())?,
            progress: block(size_of::<Progress>())?,
            loss_scale: block(dtype.size())?,
            dtype,
        };
        scalars.set_progress(device, progress)?;
        Ok(scalars)
    }

    /// Sets the learning rate of the next step.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn set_rate(&self, device: &dyn Device, lr: f64) -> Result<()> {
        device.upload(bytemuck::bytes_of(&lr), &self.rate)
    }

    /// Reads what the last step left.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn progress(&self, device: &dyn Device) -> Result<Progress> {
        let mut progress = Progress::zeroed();
        device.download(&self.progress, bytemuck::bytes_of_mut(&mut progress))?;
        Ok(progress)
    }

    /// Goes on from `progress`.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn set_progress(&self, device: &dyn Device, progress: Progress) -> Result<()> {
        device.upload(bytemuck::bytes_of(&progress), &self.progress)?;
        device.upload(&self.dtype.encode(&[progress.scale]), &self.loss_scale)
    }

    /// The loss scale, one element: the gradient of the loss that the backward pass begins with.
    pub fn loss_scale(&self) -> &Arc<Block> {
        &self.loss_scale
    }
}

/// Head of the parameters of a launch over many tensors; a [`Group`] for each of them follows, then, on a GPU, the
/// addresses of inputs and outputs.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Head {
    /// What they mean is the kernel's business.
    constants: [f64; 4],
    tensors: i64,
}

/// One tensor of such a launch.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Group {
    lr_factor: f64,
    decay: f64,
    len: i64,
    /// Blocks of the tensors before it.
    first_block: i32,
    /// Its place among the shadows; −1 if it has none.
    shadow: i32,
}

/// Elements of a tensor that one block covers; `CHUNK` in `kernels/optim.cu` must agree.
const CHUNK: usize = 1 << 14;
/// Tensors of one launch, so that parameters and addresses fit `TABLE_BYTES` in `kernels/optim.cu`.
const MAX_TENSORS: usize = 256;

fn blocks(len: usize) -> usize {
    len.div_ceil(CHUNK)
}

/// Parameters of a launch over tensors of these lengths, rates, decays and shadows.
fn table(constants: [f64; 4], tensors: impl Iterator<Item = (usize, f64, f64, bool)>) -> Vec<u8> {
    let (mut first_block, mut shadows) = (0, 0);
    let groups = tensors.map(|(len, lr_factor, decay, shadowed)| {
        let shadow = if shadowed { shadows } else { -1 };
        let group = Group { lr_factor, decay, len: len as i64, first_block: first_block as i32, shadow };
        first_block += blocks(len);
        shadows += i32::from(shadowed);
        group
    });
    let groups: Vec<Group> = groups.collect();
    let head = Head { constants, tensors: groups.len() as i64 };
    [bytemuck::bytes_of(&head), bytemuck::cast_slice(&groups)].concat()
}

fn read_table(params: &[u8]) -> (Head, Vec<Group>) {
    let (head, groups) = params.split_at(size_of::<Head>());
    (bytemuck::pod_read_unaligned(head), bytemuck::pod_collect_to_vec(groups))
}

/// A block for each chunk of each tensor.
fn chunks_grid(params: &[u8], _: DType) -> Grid {
    let last = *read_table(params).1.last().expect("a launch over at least one tensor");
    Grid::new([last.first_block as usize + blocks(last.len as usize), 1, 1], Grid::THREADS)
}

fn one_block(_: &[u8], _: DType) -> Grid {
    Grid::new([1, 1, 1], Grid::THREADS)
}

/// Runs `step` on every chunk of every tensor: group, value, states, gradient.
fn packed<T: Real>(args: &mut Args, states: usize, step: impl Fn(&Group, &mut [T], &mut [T], &mut [T], &[T]) + Sync) {
    let (_, groups) = read_table(args.params);
    assert_eq!(args.outs.len(), groups.len() * (1 + states), "only a GPU keeps shadows");
    let tensors = args.outs.chunks_exact_mut(1 + states).zip(&args.ins[1..]).zip(&groups);
    let work: Vec<_> = tensors
        .flat_map(|((outs, gradient), group)| {
            let mut outs = outs.iter_mut().map(|out| bytemuck::cast_slice_mut::<u8, T>(out).chunks_mut(CHUNK));
            let (value, mut first, mut second) = (outs.next().expect("a value"), outs.next(), outs.next());
            let gradient = bytemuck::cast_slice::<u8, T>(gradient).chunks(CHUNK);
            value.zip(gradient).map(move |(value, gradient)| {
                let first = first.as_mut().and_then(Iterator::next).unwrap_or_default();
                let second = second.as_mut().and_then(Iterator::next).unwrap_or_default();
                (group, value, first, second, gradient)
            })
        })
        .collect();
    parallel::items(
        work,
        #[inline(always)]
        |(group, value, first, second, gradient)| step(group, value, first, second, gradient),
    );
}

/// The constants of the launch and the progress it reads; `None` if the step is skipped.
fn begin(args: &Args) -> Option<([f64; 4], Progress)> {
    let progress: Progress = bytemuck::pod_read_unaligned(args.ins[0]);
    (progress.apply == 1.0).then(|| (read_table(args.params).0.constants, progress))
}

fn sgd_body<T: Real>(args: &mut Args) {
    let Some(([momentum, ..], p)) = begin(args) else { return };
    let (momentum, factor) = (T::of(momentum), T::of(p.factor));
    packed::<T>(
        args,
        1,
        #[inline(always)]
        |group, value, velocity, _, gradient| {
            let (lr, decay) = (T::of(p.lr * group.lr_factor), T::of(group.decay));
            for ((w, v), &g) in value.iter_mut().zip(velocity).zip(gradient) {
                *v = momentum * *v + (g * factor + decay * *w);
                *w = *w - lr * *v;
            }
        },
    );
}

/// Adam; with `DECOUPLED` decay, AdamW.
fn adam_body<T: Real, const DECOUPLED: bool>(args: &mut Args) {
    let Some(([beta1, beta2, eps, _], p)) = begin(args) else { return };
    let (keep1, keep2, eps, factor) = (T::of(beta1), T::of(beta2), T::of(eps), T::of(p.factor));
    let (new1, new2, unbias2) = (T::of(1.0 - beta1), T::of(1.0 - beta2), T::of(p.unbias[1]));
    packed::<T>(
        args,
        2,
        #[inline(always)]
        |group, value, mean, square, gradient| {
            let lr = p.lr * group.lr_factor;
            let (shrink, added) = if DECOUPLED { (1.0 - lr * group.decay, 0.0) } else { (1.0, group.decay) };
            let (rate, shrink, added) = (T::of(lr * p.unbias[0]), T::of(shrink), T::of(added));
            for (((w, m), s), &g) in value.iter_mut().zip(mean).zip(square).zip(gradient) {
                let g = g * factor + added * *w;
                *m = keep1 * *m + new1 * g;
                *s = keep2 * *s + new2 * g * g;
                *w = *w * shrink - rate * *m / ((*s * unbias2).sqrt() + eps);
            }
        },
    );
}

fn adam_l2_body<T: Real>(args: &mut Args) {
    adam_body::<T, false>(args);
}

fn adamw_body<T: Real>(args: &mut Args) {
    adam_body::<T, true>(args);
}

/// The share of step t in the average of t values of which each counts `decay` times as much as the next.
fn share(decay: f64, step: f64) -> f64 {
    (1.0 - decay) / (1.0 - decay.powf(step))
}

/// averages ← averages + share·(values − averages).
fn ema_body<T: Real>(args: &mut Args) {
    let Some(([decay, ..], p)) = begin(args) else { return };
    let share = T::of(share(decay, p.step));
    packed::<T>(
        args,
        0,
        #[inline(always)]
        |_, average, _, _, value| average.iter_mut().zip(value).for_each(|(a, &w)| *a = *a + share * (w - *a)),
    );
}

/// Sum of squares of each chunk, in f64; not finite where a gradient is not.
fn squares_body<T: Real>(args: &mut Args) {
    let gradients = args.ins.iter().map(|g| bytemuck::cast_slice::<u8, T>(g));
    let chunks: Vec<&[T]> = gradients.flat_map(|g| g.chunks(CHUNK)).collect();
    let sums: &mut [f64] = bytemuck::cast_slice_mut(args.outs[0]);
    let work: Vec<_> = sums.iter_mut().zip(chunks).collect();
    parallel::items(
        work,
        #[inline(always)]
        |(sum, chunk)| **sum = sum_of_squares(chunk),
    );
}

/// Σ g², in f64, as several sums side by side: one alone would wait for each addition.
#[inline(always)]
fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let mut sums = [0.0; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        sums.iter_mut().zip(values).for_each(|(sum, g)| *sum += g.f64() * g.f64());
    }
    sums.iter().sum::<f64>() + rest.iter().map(|g| g.f64() * g.f64()).sum::<f64>()
}

/// From the rate and the sums of squares to what the step does. Constants: beta1, beta2, largest norm, steps to growth.
fn prepare_body<T: Real>(args: &mut Args) {
    let ([beta1, beta2, clip, growth], rate) = (read_table(args.params).0.constants, args.ins[0]);
    let square: f64 = args.ins[1..].iter().flat_map(|sums| bytemuck::cast_slice::<u8, f64>(sums)).sum();
    let mut p: Progress = bytemuck::pod_read_unaligned(args.outs[0]);
    p.lr = bytemuck::pod_read_unaligned(rate);
    p.norm = square.sqrt() / p.scale;
    let finite = square.is_finite();
    p.apply = f64::from(finite);
    p.factor = if clip > 0.0 && p.norm > clip { clip / p.norm } else { 1.0 } / p.scale;
    if finite {
        p.step += 1.0;
        p.clean += 1.0;
        if growth > 0.0 && p.clean >= growth {
            p.scale *= 2.0;
            p.clean = 0.0;
        }
    } else {
        p.skipped += 1.0;
        p.clean = 0.0;
        if growth > 0.0 {
            p.scale *= 0.5;
        }
    }
    p.unbias = [beta1, beta2].map(|beta| 1.0 / (1.0 - beta.powf(p.step)));
    args.outs[0].copy_from_slice(bytemuck::bytes_of(&p));
    args.outs[1].copy_from_slice(bytemuck::bytes_of(&T::of(p.scale)));
}

/// A kernel over the tensors of a table.
const fn over_table(name: &'static str, cpu: fn(&mut Args), grid: fn(&[u8], DType) -> Grid) -> Kernel {
    Kernel { name, cpu, cuda: Launch::Table(grid), macs: None }
}

static SQUARES: Kernel = over_table("grad_squares", kernel!(@dispatch squares_body), chunks_grid);
static PREPARE: Kernel = over_table("optim_prepare", kernel!(@dispatch prepare_body), one_block);
static SGD: Kernel = over_table("sgd_step", kernel!(@dispatch sgd_body), chunks_grid);
static ADAM: Kernel = over_table("adam_step", kernel!(@dispatch adam_l2_body), chunks_grid);
static ADAMW: Kernel = over_table("adamw_step", kernel!(@dispatch adamw_body), chunks_grid);
static EMA: Kernel = over_table("ema_update", kernel!(@dispatch ema_body), chunks_grid);

/// Updates every parameter by `rule` with the rate and the progress in `scalars`, and moves the progress on. Parameters,
/// states and gradients are of `scalars`' type; shadows are `stored`. If a gradient is not finite, no parameter moves.
///
/// # Errors
/// A failure of the device.
pub fn update(
    device: &dyn Device,
    rule: Rule,
    limits: Limits,
    stored: DType,
    scalars: &Scalars,
    updates: &[Update],
) -> Result<()> {
    let dtype = scalars.dtype;
    let [a, b, c] = rule.constants();
    let len = |block: &Block| block.bytes() / dtype.size();
    let sums = updates.chunks(MAX_TENSORS).map(|updates| {
        let count: usize = updates.iter().map(|u| blocks(len(u.gradient))).sum();
        let sums = device.alloc(count * size_of::<f64>(), "gradient norm")?;
        let params = table([0.0; 4], updates.iter().map(|u| (len(u.gradient), 0.0, 0.0, false)));
        let gradients: Vec<&Block> = updates.iter().map(|u| u.gradient).collect();
        device.launch(&SQUARES, dtype, &params, &gradients, &[&sums])?;
        Ok(sums)
    });
    let sums: Vec<Arc<Block>> = sums.collect::<Result<_>>()?;
    let constants = [a, b, limits.clip.unwrap_or(0.0), limits.growth.map_or(0.0, f64::from)];
    let params = table(constants, sums.iter().map(|sums| (sums.bytes() / size_of::<f64>(), 0.0, 0.0, false)));
    let ins: Vec<&Block> = std::iter::once(&*scalars.rate).chain(sums.iter().map(|sums| &**sums)).collect();
    device.launch(&PREPARE, dtype, &params, &ins, &[&scalars.progress, &scalars.loss_scale])?;
    for updates in updates.chunks(MAX_TENSORS) {
        let tensor = |u: &Update| (len(u.value), u.lr_factor, u.decay, u.shadow.is_some());
        let params = table([a, b, c, 0.0], updates.iter().map(tensor));
        let gradients = updates.iter().map(|u| u.gradient);
        let ins: Vec<&Block> = std::iter::once(&*scalars.progress).chain(gradients).collect();
        let values = updates.iter().flat_map(|u| std::iter::once(u.value).chain(u.state.iter().copied()));
        let shadows: Vec<&Block> = updates.iter().filter_map(|u| u.shadow).collect();
        let narrowest = if shadows.is_empty() { dtype } else { stored };
        let outs: Vec<&Block> = values.chain(shadows).collect();
        device.launch(rule.kernel(), narrowest, &params, &ins, &outs)?;
    }
    Ok(())
}

/// Makes each first of `pairs`, an average over the steps before, one over the values too that the second has: of t values each counts
/// `decay` times as much as the next (the exponential moving average with Adam's correction, Kingma and Ba 2015), so that the first
/// step gives its own. Not if the step that made the values was skipped.
///
/// # Errors
/// A failure of the device.
pub fn average(device: &dyn Device, decay: f64, scalars: &Scalars, pairs: &[(&Block, &Block)]) -> Result<()> {
    for pairs in pairs.chunks(MAX_TENSORS) {
        let lengths = pairs.iter().map(|(average, _)| (average.bytes() / scalars.dtype.size(), 0.0, 0.0, false));
        let ins: Vec<&Block> =
            std::iter::once(&*scalars.progress).chain(pairs.iter().map(|(_, value)| *value)).collect();
        let outs: Vec<&Block> = pairs.iter().map(|(average, _)| *average).collect();
        device.launch(&EMA, scalars.dtype, &table([decay, 0.0, 0.0, 0.0], lengths), &ins, &outs)?;
    }
    Ok(())
}
