//! The named parameter store. Names, order and file layout are torchvision's; memory is the engine's.

use super::Init;
use crate::{
    Error, Result,
    device::{Block, DType, Device},
    rng::{Purpose, Rng},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Handle of an entry in the store it was declared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

impl Id {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// How an entry's elements are ordered in the engine, compared with its torch file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same order; the file may write the shape differently, as `[c, 1, r, s]` for `[c, r, s]`.
    Same,
    /// Convolution weights: `[k, c, r, s]` in the file, `[k, r, s, c]` here.
    Krsc,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Trained, with weight decay: weights of convolutions and linear layers.
    Weight,
    /// Trained; usually left without weight decay: biases and normalisation parameters.
    Undecayed,
    /// Running statistics.
    Buffer,
    /// `num_batches_tracked`: one integer.
    Counter,
}

/// One named entry of a network.
pub struct Entry {
    /// torchvision's name.
    pub name: String,
    /// Shape in the engine.
    pub shape: Vec<usize>,
    /// Shape in a torch file.
    pub file_shape: Vec<usize>,
    /// Order of the elements.
    pub layout: Layout,
    /// What it is for.
    pub kind: Kind,
    /// Whether it stays as it is in training.
    pub frozen: bool,
    value: Value,
    /// The value rounded to the type of the images, where that is a half type and convolutions read the value.
    shadow: Option<Arc<Block>>,
}

enum Value {
    Floats(Arc<Block>),
    Count(AtomicU64),
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it gets a gradient.
    pub fn trained(&self) -> bool {
        !self.frozen && matches!(self.kind, Kind::Weight | Kind::Undecayed)
    }

    /// Its memory.
    ///
    /// # Panics
    /// For a counter, which has none.
    #[track_caller]
    pub fn block(&self) -> &Arc<Block> {
        match &self.value {
            Value::Floats(block) => block,
            Value::Count(_) => panic!("{} is a counter", self.name),
        }
    }

    /// The memory of its value rounded to the type of the images, where kernels read that.
    pub fn shadow(&self) -> Option<&Arc<Block>> {
        self.shadow.as_ref()
    }

    /// The value of a counter; `None` for floats.
    pub fn counter(&self) -> Option<u64> {
        match &self.value {
            Value::Floats(_) => None,
            Value::Count(count) => Some(count.load(Ordering::Relaxed)),
        }
    }
}

/// An entry before it has values.
struct Declaration {
    name: String,
    shape: Vec<usize>,
    file_shape: Vec<usize>,
    layout: Layout,
    kind: Kind,
    init: Init,
    /// Whether it is the filter of a convolution, which reads it in the type of the images.
    filter: bool,
}

/// Collects the declarations of a network, in order, under dotted names.
#[derive(Default)]
pub struct Builder {
    declared: Vec<Declaration>,
    prefix: String,
}

impl Builder {
    /// Runs `f` with `name` added to the prefix of all declarations.
    pub fn scope<R>(&mut self, name: impl AsRef<str>, f: impl FnOnce(&mut Builder) -> R) -> R {
        let outer = self.prefix.len();
        self.prefix.push_str(name.as_ref());
        self.prefix.push('.');
        let result = f(self);
        self.prefix.truncate(outer);
        result
    }

    /// Declares floats whose shape is the same here and in a file.
    pub fn floats(&mut self, name: &str, shape: &[usize], kind: Kind, init: Init) -> Id {
        self.declare(name, shape.to_vec(), shape.to_vec(), Layout::Same, kind, init)
    }

    /// Declares convolution weights `[k, r, s, c]`.
    pub fn conv(&mut self, name: &str, [k, r, s, c]: [usize; 4], init: Init) -> Id {
        // With a 1×1 kernel both orders are the same.
        self.filter(name, vec![k, r, s, c], vec![k, c, r, s], Layout::Krsc, init)
    }

    /// Declares weights `[o, h, w, c]` of a fully connected layer that reads flattened images, `[o, c·h·w]` in a file.
    pub fn flattened(&mut self, name: &str, o: usize, [h, w, c]: [usize; 3], init: Init) -> Id {
        self.filter(name, vec![o, h, w, c], vec![o, c * h * w], Layout::Krsc, init)
    }

    /// Declares depthwise convolution weights `[c, r, s]`.
    pub fn depthwise(&mut self, name: &str, [c, r, s]: [usize; 3], init: Init) -> Id {
        self.filter(name, vec![c, r, s], vec![c, 1, r, s], Layout::Same, init)
    }

    fn filter(&mut self, name: &str, shape: Vec<usize>, file_shape: Vec<usize>, layout: Layout, init: Init) -> Id {
        let id = self.declare(name, shape, file_shape, layout, Kind::Weight, init);
        self.declared[id.0].filter = true;
        id
    }

    /// Declares weights `shape` that a file holds as `file_shape`, in the same order.
    pub fn weight_as(&mut self, name: &str, shape: &[usize], file_shape: &[usize], init: Init) -> Id {
        self.declare(name, shape.to_vec(), file_shape.to_vec(), Layout::Same, Kind::Weight, init)
    }

    /// Declares a counter.
    pub fn counter(&mut self, name: &str) -> Id {
        self.declare(name, vec![], vec![], Layout::Same, Kind::Counter, Init::Constant(0.0))
    }

    fn declare(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        file_shape: Vec<usize>,
        layout: Layout,
        kind: Kind,
        init: Init,
    ) -> Id {
        let name = format!("{}{name}", self.prefix);
        self.declared.push(Declaration { name, shape, file_shape, layout, kind, init, filter: false });
        Id(self.declared.len() - 1)
    }
}

/// The values of a network on a device.
pub struct Params {
    device: Arc<dyn Device>,
    dtype: DType,
    entries: Vec<Entry>,
    by_name: HashMap<String, Id>,
}

impl Params {
    /// Initial values for what `builder` declared, for images of type `dtype`; each entry draws from a stream of its own.
    /// Values are kept in [`DType::wide`]: small updates would be lost in a half type.
    ///
    /// # Errors
    /// A failure of the device.
    #[track_caller]
    pub fn new(builder: Builder, device: &Arc<dyn Device>, dtype: DType, seed: u64) -> Result<Params> {
        let mut params = Params { device: device.clone(), dtype, entries: vec![], by_name: HashMap::new() };
        for (i, declared) in builder.declared.into_iter().enumerate() {
            let Declaration { name, shape, file_shape, layout, kind, init, filter } = declared;
            let len = shape.iter().product::<usize>();
            let value = match kind {
                Kind::Counter => Value::Count(AtomicU64::new(0)),
                _ => Value::Floats(device.alloc(len * dtype.wide().size(), "parameters")?),
            };
            let shadowed = filter && dtype != dtype.wide();
            let shadow = shadowed.then(|| device.alloc(len * dtype.size(), "parameters")).transpose()?;
            assert!(params.by_name.insert(name.clone(), Id(i)).is_none(), "{name} is declared twice");
            params.entries.push(Entry { name, shape, file_shape, layout, kind, frozen: false, value, shadow });
            if kind != Kind::Counter && device.holds_values() {
                let values = init.values(params.entries[i].len(), &mut Rng::new(seed, Purpose::Init, i as u32, 0));
                params.set(Id(i), &values)?;
            }
        }
        Ok(params)
    }

    /// The device that holds them.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Float type of images and activations; the values are of its [`DType::wide`].
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entry in torchvision's order.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.entries.iter().enumerate().map(|(i, entry)| (Id(i), entry))
    }

    /// One entry.
    pub fn entry(&self, id: Id) -> &Entry {
        &self.entries[id.0]
    }

    /// One entry, to freeze or thaw it.
    pub fn entry_mut(&mut self, id: Id) -> &mut Entry {
        &mut self.entries[id.0]
    }

    /// The entry called `name`.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.by_name.get(name).copied()
    }

    /// Number of trainable values, as torch counts parameters.
    pub fn parameter_count(&self) -> usize {
        let trainable = |entry: &&Entry| matches!(entry.kind, Kind::Weight | Kind::Undecayed);
        self.entries.iter().filter(trainable).map(Entry::len).sum()
    }

    /// Adds one to a counter.
    pub(crate) fn count(&self, id: Id) {
        if let Value::Count(count) = &self.entry(id).value {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets a counter.
    pub fn set_counter(&self, id: Id, value: u64) {
        if let Value::Count(count) = &self.entry(id).value {
            count.store(value, Ordering::Relaxed);
        }
    }

    /// The values of entry `id` in the order of a torch file.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn get(&self, id: Id) -> Result<Vec<f32>> {
        self.read(id, self.entry(id).block())
    }

    /// Sets the values of entry `id`, given in the order of a torch file.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn set(&self, id: Id, values: &[f32]) -> Result<()> {
        let entry = self.entry(id);
        self.write(id, values, entry.block())?;
        let Some(shadow) = &entry.shadow else { return Ok(()) };
        let values = self.reorder(id, values, Direction::FromFile);
        self.device.upload(&self.dtype.encode_single(&values), shadow)
    }

    /// What `block` holds for entry `id` (its value, its gradient or a state of the optimiser), in the order of a file.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn read(&self, id: Id, block: &Block) -> Result<Vec<f32>> {
        let mut bytes = vec![0; block.bytes()];
        self.device.download(block, &mut bytes)?;
        let values: Vec<f32> = match self.dtype.wide() {
            DType::F32 => bytemuck::pod_collect_to_vec(&bytes),
            wide => wide.decode(&bytes).into_iter().map(|x| x as f32).collect(),
        };
        Ok(self.reorder(id, &values, Direction::ToFile))
    }

    /// Writes `values`, in the order of a file, to a block that belongs to entry `id`.
    ///
    /// # Errors
    /// A failure of the device, or a wrong number of values.
    pub fn write(&self, id: Id, values: &[f32], block: &Block) -> Result<()> {
        let entry = self.entry(id);
        if values.len() != entry.len() {
            let problem = format!("{} has {} values, not {}", entry.name, entry.len(), values.len());
            return Err(Error::unusable(problem, "use the weights of this network"));
        }
        let values = self.reorder(id, values, Direction::FromFile);
        self.device.upload(&self.dtype.wide().encode_single(&values), block)
    }

    fn reorder(&self, id: Id, values: &[f32], direction: Direction) -> Vec<f32> {
        let entry = self.entry(id);
        if entry.layout == Layout::Same {
            return values.to_vec();
        }
        let &[k, r, s, c] = &entry.shape[..] else { unreachable!("convolution weights have four axes") };
        let taps = r * s;
        let mut out = vec![0.0; values.len()];
        for k in 0..k {
            for tap in 0..taps {
                for c_i in 0..c {
                    let (here, file) = ((k * taps + tap) * c + c_i, (k * c + c_i) * taps + tap);
                    match direction {
                        Direction::ToFile => out[file] = values[here],
                        Direction::FromFile => out[here] = values[file],
                    }
                }
            }
        }
        out
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToFile,
    FromFile,
}
