//! Optimisers: one launch updates every parameter.

use crate::{
    Result,
    device::{Args, Block, DType, Device, Grid, Kernel, Launch, Real, cpu::parallel},
    kernel,
};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// The update rule. Rates and decay are those of the parameter group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum Rule {
    /// v ← momentum·v + (g + decay·w), w ← w − lr·v (PyTorch's SGD; v starts as the first gradient).
    Sgd {
        /// Share of the old direction.
        momentum: f64,
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
    /// AdamW with the usual constants.
    pub const ADAMW: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    /// Names of the state that each parameter has beside its value, all zero before the first step.
    pub fn state(self) -> &'static [&'static str] {
        match self {
            Rule::Sgd { .. } => &["momentum"],
            Rule::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
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
    /// Learning rate of its group at this step.
    pub lr: f64,
    /// Weight decay of its group.
    pub decay: f64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Group {
    lr: f64,
    decay: f64,
}

/// Constants of the rule; what they mean is the rule's business.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Constants {
    a: f64,
    b: f64,
    eps: f64,
    /// Steps done, this one included.
    step: f64,
}

/// Elements of a parameter that one piece of work covers.
const PIECE: usize = 1 << 15;

fn packed<T: Real>(args: &mut Args, states: usize, step: impl Fn(&Group, &mut [T], &mut [T], &mut [T], &[T]) + Sync) {
    let groups: Vec<Group> = bytemuck::pod_collect_to_vec(&args.params[size_of::<Constants>()..]);
    let tensors = args.outs.chunks_exact_mut(1 + states).zip(&args.ins).zip(&groups);
    let work: Vec<_> = tensors
        .flat_map(|((outs, gradient), group)| {
            let mut outs = outs.iter_mut().map(|out| bytemuck::cast_slice_mut::<u8, T>(out).chunks_mut(PIECE));
            let (value, first) = (outs.next().expect("a value"), outs.next().expect("a state"));
            let mut second = outs.next();
            let gradient = bytemuck::cast_slice::<u8, T>(gradient).chunks(PIECE);
            let pieces = value.zip(first).zip(gradient);
            pieces.map(move |((value, first), gradient)| {
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

fn sgd_body<T: Real>(args: &mut Args) {
    let constants: Constants = bytemuck::pod_read_unaligned(&args.params[..size_of::<Constants>()]);
    let momentum = T::of(constants.a);
    packed::<T>(
        args,
        1,
        #[inline(always)]
        |group, value, velocity, _, gradient| {
            let (lr, decay) = (T::of(group.lr), T::of(group.decay));
            for ((w, v), &g) in value.iter_mut().zip(velocity).zip(gradient) {
                *v = momentum * *v + (g + decay * *w);
                *w = *w - lr * *v;
            }
        },
    );
}

fn adamw_body<T: Real>(args: &mut Args) {
    let constants: Constants = bytemuck::pod_read_unaligned(&args.params[..size_of::<Constants>()]);
    let Constants { a: beta1, b: beta2, eps, step } = constants;
    let unbias1 = 1.0 / (1.0 - beta1.powf(step));
    let unbias2 = 1.0 / (1.0 - beta2.powf(step));
    let (keep1, keep2, eps) = (T::of(beta1), T::of(beta2), T::of(eps));
    let (new1, new2, unbias2) = (T::of(1.0 - beta1), T::of(1.0 - beta2), T::of(unbias2));
    packed::<T>(
        args,
        2,
        #[inline(always)]
        |group, value, mean, square, gradient| {
            let (rate, shrink) = (T::of(group.lr * unbias1), T::of(1.0 - group.lr * group.decay));
            for (((w, m), s), &g) in value.iter_mut().zip(mean).zip(square).zip(gradient) {
                *m = keep1 * *m + new1 * g;
                *s = keep2 * *s + new2 * g * g;
                *w = *w * shrink - rate * *m / ((*s * unbias2).sqrt() + eps);
            }
        },
    );
}

fn grid(_: &[u8], _: DType) -> Grid {
    Grid::threads(1)
}

static SGD: Kernel = Kernel { name: "sgd_step", cpu: kernel!(@dispatch sgd_body), cuda: Launch::Table(grid) };
static ADAMW: Kernel = Kernel { name: "adamw_step", cpu: kernel!(@dispatch adamw_body), cuda: Launch::Table(grid) };
/// Updates every parameter in one launch. `step` counts from 1.
///
/// # Errors
/// A failure of the device.
pub fn update(device: &dyn Device, rule: Rule, step: u64, dtype: DType, updates: &[Update]) -> Result<()> {
    let step = step as f64;
    let (kernel, constants) = match rule {
        Rule::Sgd { momentum } => (&SGD, Constants { a: momentum, b: 0.0, eps: 0.0, step }),
        Rule::AdamW { beta1, beta2, eps } => (&ADAMW, Constants { a: beta1, b: beta2, eps, step }),
    };
    let groups = updates.iter().map(|u| Group { lr: u.lr, decay: u.decay });
    let mut params = bytemuck::bytes_of(&constants).to_vec();
    groups.for_each(|group| params.extend(bytemuck::bytes_of(&group)));
    let ins: Vec<&Block> = updates.iter().map(|u| u.gradient).collect();
    let outs: Vec<&Block> =
        updates.iter().flat_map(|u| std::iter::once(u.value).chain(u.state.iter().copied())).collect();
    device.launch(kernel, dtype, &params, &ins, &outs)
}
