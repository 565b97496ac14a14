//! InceptionV3 (Szegedy et al. 2016).

use super::{
    Encoder, Features, Inputs,
    head::{Head, Pooled},
};
use crate::{
    nn::{
        Builder, Init, Pass,
        layers::{ConvBn, Linear, Style},
    },
    ops::{
        activation::Act::Relu,
        pool::{avg_pool, global_avg_pool, max_pool},
        slice::concat,
    },
    shape::Window,
    tensor::Tensor,
};

/// torchvision draws normally distributed weights with this deviation; its cut at twenty of them is never met.
const SIGMA: f32 = 0.1;
const STYLE: Style = Style { eps: 1e-3, momentum: 0.1, init: |_, _| Init::Normal(SIGMA) };

/// A convolution of a branch: name, channels, window.
type Row = (&'static str, usize, Window);

/// A branch of a module: a pooling, convolutions one after another, then some side by side.
struct Plan {
    pool: Pool,
    convs: Vec<Row>,
    fork: Vec<Row>,
}

#[derive(Clone, Copy)]
enum Pool {
    None,
    Average,
    Max,
}

/// An r×s kernel that keeps the size.
const fn same(r: usize, s: usize) -> Window {
    Window { kernel: (r, s), stride: (1, 1), pad: (r / 2, s / 2) }
}

/// A 3×3 kernel without padding, at stride 1 or 2.
const fn valid(stride: usize) -> Window {
    Window { kernel: (3, 3), stride: (stride, stride), pad: (0, 0) }
}

const POINT: Window = same(1, 1);
/// What halves the resolution.
const HALVE: Window = valid(2);

fn convs(convs: &[Row]) -> Plan {
    Plan { pool: Pool::None, convs: convs.to_vec(), fork: vec![] }
}

fn forked(convs: &[Row], fork: &[Row]) -> Plan {
    Plan { pool: Pool::None, convs: convs.to_vec(), fork: fork.to_vec() }
}

fn pooled(channels: usize) -> Plan {
    Plan { pool: Pool::Average, ..self::convs(&[("branch_pool", channels, POINT)]) }
}

fn halved() -> Plan {
    Plan { pool: Pool::Max, ..self::convs(&[]) }
}

/// Figure 5 of the paper: 5×5 and two 3×3.
fn module_a(pool: usize) -> Vec<Plan> {
    vec![
        convs(&[("branch1x1", 64, POINT)]),
        convs(&[("branch5x5_1", 48, POINT), ("branch5x5_2", 64, same(5, 5))]),
        convs(&[("branch3x3dbl_1", 64, POINT), ("branch3x3dbl_2", 96, same(3, 3)), ("branch3x3dbl_3", 96, same(3, 3))]),
        pooled(pool),
    ]
}

/// Figure 10: halves the resolution.
fn module_b() -> Vec<Plan> {
    vec![
        convs(&[("branch3x3", 384, HALVE)]),
        convs(&[("branch3x3dbl_1", 64, POINT), ("branch3x3dbl_2", 96, same(3, 3)), ("branch3x3dbl_3", 96, HALVE)]),
        halved(),
    ]
}

/// Figure 6: 7×7 as rows and columns, with `c` channels in between.
fn module_c(c: usize) -> Vec<Plan> {
    vec![
        convs(&[("branch1x1", 192, POINT)]),
        convs(&[("branch7x7_1", c, POINT), ("branch7x7_2", c, same(1, 7)), ("branch7x7_3", 192, same(7, 1))]),
        convs(&[
            ("branch7x7dbl_1", c, POINT),
            ("branch7x7dbl_2", c, same(7, 1)),
            ("branch7x7dbl_3", c, same(1, 7)),
            ("branch7x7dbl_4", c, same(7, 1)),
            ("branch7x7dbl_5", 192, same(1, 7)),
        ]),
        pooled(192),
    ]
}

/// Halves the resolution.
fn module_d() -> Vec<Plan> {
    vec![
        convs(&[("branch3x3_1", 192, POINT), ("branch3x3_2", 320, HALVE)]),
        convs(&[
            ("branch7x7x3_1", 192, POINT),
            ("branch7x7x3_2", 192, same(1, 7)),
            ("branch7x7x3_3", 192, same(7, 1)),
            ("branch7x7x3_4", 192, HALVE),
        ]),
        halved(),
    ]
}

/// Figure 7: wide, for the coarsest maps.
fn module_e() -> Vec<Plan> {
    let (row, column) = (same(1, 3), same(3, 1));
    vec![
        convs(&[("branch1x1", 320, POINT)]),
        forked(&[("branch3x3_1", 384, POINT)], &[("branch3x3_2a", 384, row), ("branch3x3_2b", 384, column)]),
        forked(
            &[("branch3x3dbl_1", 448, POINT), ("branch3x3dbl_2", 384, same(3, 3))],
            &[("branch3x3dbl_3a", 384, row), ("branch3x3dbl_3b", 384, column)],
        ),
        pooled(192),
    ]
}

struct Branch {
    pool: Pool,
    convs: Vec<ConvBn>,
    fork: Vec<ConvBn>,
}

/// Branches side by side, their channels behind one another.
struct Module(Vec<Branch>);

impl Module {
    /// Declares one that reads `c` channels, and leaves in `c` how many it gives.
    fn new(b: &mut Builder, name: &str, c: &mut usize, plans: Vec<Plan>) -> Module {
        let from = *c;
        *c = 0;
        let mut branch = |b: &mut Builder, Plan { pool, convs, fork }: Plan| {
            let mut width = from;
            let convs: Vec<_> = convs
                .into_iter()
                .map(|row| {
                    let conv = basic(b, width, row);
                    width = row.1;
                    conv
                })
                .collect();
            *c += if fork.is_empty() { width } else { fork.iter().map(|row| row.1).sum() };
            Branch { pool, convs, fork: fork.into_iter().map(|row| basic(b, width, row)).collect() }
        };
        Module(b.scope(name, |b| plans.into_iter().map(|plan| branch(b, plan)).collect()))
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let mut parts = vec![];
        for Branch { pool, convs, fork } in &self.0 {
            let y = match pool {
                Pool::None => x.clone(),
                Pool::Average => avg_pool(x, same(3, 3), true),
                Pool::Max => max_pool(x, HALVE),
            };
            let y = convs.iter().fold(y, |y, conv| conv.forward(pass, &y, Relu));
            if fork.is_empty() {
                parts.push(y);
            } else {
                parts.extend(fork.iter().map(|conv| conv.forward(pass, &y, Relu)));
            }
        }
        concat(&parts.iter().collect::<Vec<_>>())
    }
}

fn basic(b: &mut Builder, c: usize, (name, k, window): Row) -> ConvBn {
    b.scope(name, |b| ConvBn::new(b, ("conv", "bn"), (c, k), window, STYLE))
}

/// Scores from the map half-way, so that gradients reach the early layers.
struct Auxiliary {
    conv0: ConvBn,
    conv1: ConvBn,
    fc: Linear,
}

impl Auxiliary {
    /// Least side of a map: its pooling and the 5×5 convolution behind it need that much.
    const LEAST_SIDE: usize = 17;
    const POOL: Window = Window { kernel: (5, 5), stride: (3, 3), pad: (0, 0) };

    fn new(b: &mut Builder, c: usize, outputs: usize) -> Auxiliary {
        b.scope("AuxLogits", |b| Auxiliary {
            conv0: basic(b, c, ("conv0", 128, POINT)),
            conv1: basic(b, 128, ("conv1", 768, Window::square(5, 1, 0))),
            fc: Linear::new(b, "fc", (768, outputs), Init::Normal(0.001), Init::linear(768)),
        })
    }

    /// The scores; none of images so small that the map leaves nothing to look at.
    fn scores(&self, pass: &Pass, map: &Tensor) -> Option<Tensor> {
        let side = map.shape()[1].min(map.shape()[2]);
        (side >= Auxiliary::LEAST_SIDE).then(|| {
            let x = avg_pool(map, Auxiliary::POOL, true);
            let x = self.conv1.forward(pass, &self.conv0.forward(pass, &x, Relu), Relu);
            self.fc.forward(pass, &global_avg_pool(&x))
        })
    }
}

/// Layers up to the last map of one resolution.
struct Stage {
    /// A pooling that halves the resolution first.
    pooled: bool,
    convs: Vec<ConvBn>,
    modules: Vec<Module>,
    channels: usize,
}

struct Inception {
    stages: Vec<Stage>,
    auxiliary: Option<Auxiliary>,
}

/// The stage behind which the auxiliary head sits.
const AUXILIARY_STAGE: usize = 3;

/// The paper's table 1, the resolution halved from stage to stage; the auxiliary head is declared where torchvision does.
pub fn inception_v3(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    let mut c = inputs.channels;
    let convs = |b: &mut Builder, c: &mut usize, pooled: bool, rows: &[Row]| {
        let conv = |&row: &Row| basic(b, std::mem::replace(c, row.1), row);
        let convs = rows.iter().map(conv).collect();
        Stage { pooled, convs, modules: vec![], channels: *c }
    };
    let modules = |b: &mut Builder, c: &mut usize, pooled: bool, modules: Vec<(&str, Vec<Plan>)>| {
        let modules = modules.into_iter().map(|(name, plans)| Module::new(b, name, c, plans)).collect();
        Stage { pooled, convs: vec![], modules, channels: *c }
    };
    let mut stages = vec![
        convs(
            b,
            &mut c,
            false,
            &[("Conv2d_1a_3x3", 32, HALVE), ("Conv2d_2a_3x3", 32, valid(1)), ("Conv2d_2b_3x3", 64, same(3, 3))],
        ),
        convs(b, &mut c, true, &[("Conv2d_3b_1x1", 80, POINT), ("Conv2d_4a_3x3", 192, valid(1))]),
        modules(
            b,
            &mut c,
            true,
            vec![("Mixed_5b", module_a(32)), ("Mixed_5c", module_a(64)), ("Mixed_5d", module_a(64))],
        ),
        modules(
            b,
            &mut c,
            false,
            vec![
                ("Mixed_6a", module_b()),
                ("Mixed_6b", module_c(128)),
                ("Mixed_6c", module_c(160)),
                ("Mixed_6d", module_c(160)),
                ("Mixed_6e", module_c(192)),
            ],
        ),
    ];
    let auxiliary = inputs.auxiliary.map(|outputs| Auxiliary::new(b, c, outputs));
    let last = vec![("Mixed_7a", module_d()), ("Mixed_7b", module_e()), ("Mixed_7c", module_e())];
    stages.push(modules(b, &mut c, false, last));
    Box::new(Inception { stages, auxiliary })
}

pub fn head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    let linear = Linear::new(b, "fc", (features, outputs), Init::Normal(SIGMA), Init::linear(features));
    Box::new(Pooled { hidden: None, dropout: 0.5, linear })
}

impl Encoder for Inception {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let mut x = images.clone();
        let mut maps = vec![];
        for stage in &self.stages {
            if stage.pooled {
                x = max_pool(&x, HALVE);
            }
            x = stage.convs.iter().fold(x, |x, conv| conv.forward(pass, &x, Relu));
            x = stage.modules.iter().fold(x, |x, module| module.forward(pass, &x));
            maps.push(x.clone());
        }
        let auxiliary = self.auxiliary.as_ref().filter(|_| pass.training());
        let auxiliary = auxiliary.and_then(|head| head.scores(pass, &maps[AUXILIARY_STAGE]));
        Features { maps, auxiliary }
    }

    fn channels(&self) -> Vec<usize> {
        self.stages.iter().map(|stage| stage.channels).collect()
    }
}
