//! Memory that is asked for once and handed out again: after the first training step the machine is not asked any more.

use super::{Memory, lock};
use crate::{Error, Result};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Where a pool gets its memory from.
pub trait Source: Send + Sync {
    /// Address of `bytes` bytes, aligned for any element; `None` if there are none left.
    ///
    /// # Errors
    /// A failure of another kind.
    fn get(&self, bytes: usize) -> Result<Option<usize>>;
    /// Gives back what `get` gave.
    fn put(&self, address: usize, bytes: usize);
    /// Bytes that it has left, if it knows.
    fn left(&self) -> usize {
        usize::MAX
    }
    /// Bytes to leave unused behind every block, where the source watches them.
    fn guard(&self) -> usize {
        0
    }
    /// A block of `bytes` at `address` was handed out.
    fn taken(&self, _address: usize, _bytes: usize) {}
    /// That block came back.
    fn returned(&self, _address: usize, _bytes: usize) {}
}

/// A caching allocator with size classes.
pub struct Pool {
    source: Box<dyn Source>,
    limit: usize,
    /// Whether nothing goes back to the source before the pool is dropped.
    keeps: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: BTreeMap<usize, Vec<usize>>,
    in_use: usize,
    peak: usize,
    held: usize,
}

/// A piece of device memory, returned to its pool when dropped.
pub struct Block {
    address: usize,
    bytes: usize,
    pool: Arc<Pool>,
}

impl Block {
    /// Address on the device.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Length that was asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.source.returned(self.address, self.bytes);
        let class = self.pool.class(self.bytes);
        let mut state = lock(&self.pool.state);
        state.in_use -= class;
        state.free.entry(class).or_default().push(self.address);
    }
}

/// Smallest block: one cache line, which is also the alignment of every block.
const LINE: usize = 64;
/// Size classes per doubling: at most an eighth of a block is wasted, and blocks of nearly equal size are shared.
const STEPS: usize = 8;

/// The size that a request of `bytes` really takes.
fn size_class(bytes: usize) -> usize {
    let lines = bytes.div_ceil(LINE).max(1);
    let step = (lines.next_power_of_two() / (2 * STEPS)).max(1);
    lines.next_multiple_of(step) * LINE
}

impl Pool {
    /// A pool over `source` that never holds more than `limit` bytes.
    pub fn new(source: impl Source + 'static, limit: usize) -> Arc<Pool> {
        Arc::new(Pool { source: Box::new(source), limit, keeps: false, state: Mutex::default() })
    }

    /// The same, for addresses that stay in use after their blocks are returned: those in a recorded step.
    pub fn keeping(source: impl Source + 'static, limit: usize) -> Arc<Pool> {
        Arc::new(Pool { source: Box::new(source), limit, keeps: true, state: Mutex::default() })
    }

    /// A block of `bytes`, reused or new.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] naming `at`, when the limit or the machine leaves no room; another failure of the machine.
    pub fn take(self: &Arc<Pool>, bytes: usize, at: &'static str) -> Result<Arc<Block>> {
        let class = self.class(bytes);
        let mut state = lock(&self.state);
        let address = match state.free.get_mut(&class).and_then(Vec::pop) {
            Some(address) => address,
            None => self.fresh(&mut state, class)?.ok_or_else(|| {
                let free = (self.limit - state.held).min(self.source.left());
                Error::OutOfMemory { wanted: class, free, at }
            })?,
        };
        state.in_use += class;
        state.peak = state.peak.max(state.in_use);
        self.source.taken(address, bytes);
        Ok(Arc::new(Block { address, bytes, pool: self.clone() }))
    }

    /// What a block of `bytes` takes.
    fn class(&self, bytes: usize) -> usize {
        size_class(bytes + self.source.guard())
    }

    /// Gives the blocks kept for reuse back to the source.
    pub fn trim(&self) {
        self.release(&mut lock(&self.state));
    }

    /// Memory from the source; blocks kept for reuse are given up before the request is refused.
    fn fresh(&self, state: &mut State, class: usize) -> Result<Option<usize>> {
        let tries = if self.keeps { &[false][..] } else { &[false, true] };
        for &release in tries {
            if release {
                self.release(state);
            }
            if state.held + class <= self.limit
                && let Some(address) = self.source.get(class)?
            {
                state.held += class;
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    fn release(&self, state: &mut State) {
        for (class, addresses) in std::mem::take(&mut state.free) {
            state.held -= class * addresses.len();
            addresses.into_iter().for_each(|address| self.source.put(address, class));
        }
    }

    /// What is in use and held.
    pub fn memory(&self) -> Memory {
        let state = lock(&self.state);
        Memory { in_use: state.in_use, peak: state.peak, held: state.held, limit: self.limit }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *lock(&self.state));
        self.release(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for bytes in (1..100_000).step_by(37) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(LINE));
            assert!(class <= bytes + LINE + bytes / STEPS, "{bytes} takes {class}");
        }
    }

    /// Addresses counted up, and the bytes that were given back.
    #[derive(Clone, Default)]
    struct Counted(Arc<[AtomicUsize; 2]>);

    impl Source for Counted {
        fn get(&self, bytes: usize) -> Result<Option<usize>> {
            Ok(Some(LINE + self.0[0].fetch_add(bytes, Ordering::Relaxed)))
        }

        fn put(&self, _address: usize, bytes: usize) {
            self.0[1].fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A small block taken and returned, then one as large as the limit: whether there is one, and what was given back for it.
    fn at_the_limit(pool: Arc<Pool>, source: &Counted) -> (bool, usize) {
        drop(pool.take(LINE, "small").unwrap());
        (pool.take(16 * LINE, "large").is_ok(), source.0[1].load(Ordering::Relaxed))
    }

    #[test]
    fn kept_blocks_go_back_at_the_limit_unless_a_recorded_step_has_them() {
        let source = Counted::default();
        assert_eq!(at_the_limit(Pool::new(source.clone(), 16 * LINE), &source), (true, LINE));
        let source = Counted::default();
        let pool = Pool::keeping(source.clone(), 16 * LINE);
        assert_eq!(at_the_limit(pool.clone(), &source), (false, 0));
        drop(pool);
        assert_eq!(source.0[1].load(Ordering::Relaxed), LINE);
    }
}
