//! The stack machine.

use super::{Callable, FALSE, Id, Node, OPAQUE, Pickle, Storage, global};
use crate::weights::source::Fault;
use std::collections::HashMap;

/// Levels of containers in each other at most; checkpoints have a handful.
const MOST_DEPTH: u16 = 100;

/// Nodes at most: some fifty for each of 20,000 tensors, or 40 MB.
const MOST_NODES: usize = 1 << 20;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pickle: Pickle<'a>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Items copied from lists.
    copied: usize,
}

fn malformed<T>(what: &str) -> Result<T, Fault> {
    Err(Fault::Damaged(format!("its pickle {what}")))
}

impl<'a> Machine<'a> {
    /// Executes the program at the start of `bytes`.
    pub fn run(bytes: &'a [u8]) -> Result<Pickle<'a>, Fault> {
        let pickle = Pickle { nodes: vec![Node::Opaque, Node::Opaque], depths: vec![0, 0], root: OPAQUE, len: 0 };
        let mut machine =
            Machine { bytes, at: 0, pickle, stack: vec![], marks: vec![], memo: HashMap::new(), copied: 0 };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Pickle { root, len: machine.at, ..machine.pickle })
    }

    /// Executes one instruction; whether it was the last.
    fn step(&mut self) -> Result<bool, Fault> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return Ok(true),
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(Fault::Refused(format!("its pickle is of protocol {protocol}")));
                }
            }
            0x95 => drop(self.take(8)?),
            b'(' => {
                self.marks.push(self.stack.len());
                self.check_depth(self.marks.len())?;
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.take_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | 0x88 => self.stack.push(OPAQUE),
            0x89 => self.stack.push(FALSE),
            b'G' => {
                self.take(8)?;
                self.stack.push(OPAQUE);
            }
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(opcode)?,
            b'X' | b'U' | b'T' | 0x8c | 0x8d => self.string(opcode)?,
            b'B' | b'C' | 0x8e | 0x96 => {
                let len = self.length(if opcode == b'C' {
                    1
                } else if opcode == b'B' {
                    4
                } else {
                    8
                })?;
                self.take(len)?;
                self.stack.push(OPAQUE);
            }
            b')' | 0x85..=0x87 | b't' | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.container(opcode)?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.take_to_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.take_to_mark()?;
                self.set(&items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let node = global(module, name)?;
                self.push(node)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.pickle.text(module), self.pickle.text(name)) else {
                    return malformed("names an object by something else than text");
                };
                let node = global(module, name)?;
                self.push(node)?;
            }
            b'R' | 0x81 => self.call()?,
            b'b' => {
                // Attributes, as `_metadata` of a state dictionary: without meaning here.
                let _state = self.pop()?;
                let top = self.top()?;
                if !matches!(self.pickle.node(top), Node::Dict(_) | Node::Tensor(_) | Node::Opaque) {
                    return malformed("sets the attributes of what has none");
                }
            }
            b'Q' => self.persistent()?,
            b'q' | b'r' => {
                let key = self.length(if opcode == b'q' { 1 } else { 4 })? as u32;
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            0x94 => {
                let (key, top) = (self.memo.len() as u32, self.top()?);
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = self.length(if opcode == b'h' { 1 } else { 4 })? as u32;
                match self.memo.get(&key) {
                    Some(&id) => self.stack.push(id),
                    None => return malformed("refers to a value it has not stored"),
                }
            }
            other => {
                let shown = char::from(other).escape_default();
                return Err(Fault::Refused(format!(
                    "its pickle has the instruction '{shown}', which weights do not need"
                )));
            }
        }
        Ok(false)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let taken = self.bytes[self.at..].get(..len).ok_or(Fault::Short)?;
        self.at += len;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, Fault> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| Fault::Short)
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let len = self.bytes[self.at..].iter().position(|byte| *byte == b'\n').ok_or(Fault::Short)?;
        let line = self.take(len + 1)?;
        text(&line[..len])
    }

    fn integer(&mut self, opcode: u8) -> Result<(), Fault> {
        let (bytes, signed) = match opcode {
            b'K' => (self.take(1)?, false),
            b'M' => (self.take(2)?, false),
            b'J' => (self.take(4)?, true),
            _ => {
                let len = self.length(if opcode == 0x8a { 1 } else { 4 })?;
                (self.take(len)?, true)
            }
        };
        if bytes.len() > 8 {
            // Longer than any size or offset.
            self.stack.push(OPAQUE);
            return Ok(());
        }
        let negative = signed && bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    fn string(&mut self, opcode: u8) -> Result<(), Fault> {
        let width = match opcode {
            b'U' | 0x8c => 1,
            0x8d => 8,
            _ => 4,
        };
        let len = self.length(width)?;
        let bytes = self.take(len)?;
        // Strings of Python 2 may be of any encoding; those that are not text have no meaning here.
        let node = match opcode {
            b'U' | b'T' => std::str::from_utf8(bytes).map_or(Node::Opaque, Node::Str),
            _ => Node::Str(text(bytes)?),
        };
        self.push(node)
    }

    fn container(&mut self, opcode: u8) -> Result<(), Fault> {
        let items = match opcode {
            b')' | b']' | b'}' | 0x8f => vec![],
            0x85..=0x87 => {
                let mut items = vec![0; usize::from(opcode - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                items
            }
            _ => self.take_to_mark()?,
        };
        let depth = self.above(&items)?;
        let node = match opcode {
            b']' | b'l' | 0x8f | 0x91 => Node::List(items),
            b'}' | b'd' => Node::Dict(pairs(&items)?),
            _ => Node::Tuple(items),
        };
        self.push_at(node, depth)
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Fault> {
        let list = self.top()?;
        self.deepen(list, items)?;
        match &mut self.pickle.nodes[list as usize] {
            Node::List(list) => list.extend(items),
            Node::Opaque => {}
            _ => return malformed("appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Fault> {
        let dict = self.top()?;
        self.deepen(dict, items)?;
        match &mut self.pickle.nodes[dict as usize] {
            Node::Dict(dict) => dict.extend(pairs(items)?),
            Node::Opaque => {}
            _ => return malformed("sets an item of what is no dictionary"),
        }
        Ok(())
    }

    /// A call, or the making of an object, which differ in nothing here.
    fn call(&mut self) -> Result<(), Fault> {
        let (args, callable) = (self.pop()?, self.pop()?);
        let Node::Tuple(items) = self.pickle.node(args) else {
            return malformed("calls with what are no arguments");
        };
        let first = items.first().copied();
        match self.pickle.node(callable) {
            Node::Callable(Callable::Dict) => match first.map(|first| (first, self.pickle.node(first))) {
                Some((first, Node::Dict(_))) => self.stack.push(first),
                Some((first, Node::List(_))) => self.dictionary_of(first)?,
                _ => self.push(Node::Dict(vec![]))?,
            },
            Node::Callable(Callable::RebuildTensor) => self.push(Node::Tensor(args))?,
            Node::Callable(Callable::First) => match first {
                Some(first) => self.stack.push(first),
                None => return malformed("calls without arguments"),
            },
            Node::Callable(Callable::Opaque) => self.stack.push(OPAQUE),
            _ => return malformed("calls what is no function"),
        }
        Ok(())
    }

    /// Makes a dictionary of a list of pairs, as Python 2 writes it.
    fn dictionary_of(&mut self, list: Id) -> Result<(), Fault> {
        let items = self.pickle.items(list).unwrap_or(&[]);
        // The only instruction that can copy: one list, made into dictionaries again and again, would grow as a square.
        self.copied += items.len();
        if self.copied > self.bytes.len() {
            return malformed("copies more than it holds");
        }
        let pair = |id: &Id| match self.pickle.items(*id) {
            Some(&[key, value]) => Ok((key, value)),
            _ => malformed("makes a dictionary of what are no pairs"),
        };
        let pairs = items.iter().map(pair).collect::<Result<_, _>>()?;
        self.push_at(Node::Dict(pairs), self.pickle.depths[list as usize])
    }

    /// `('storage', class, key, device, number of values[, view])`.
    fn persistent(&mut self) -> Result<(), Fault> {
        let id = self.pop()?;
        let pickle = &self.pickle;
        let storage = pickle.items(id).and_then(|items| match *items {
            [tag, kind, key, _, numel] | [tag, kind, key, _, numel, OPAQUE] => {
                let (Node::StorageType(kind), Node::Int(numel)) = (pickle.node(kind), pickle.node(numel)) else {
                    return None;
                };
                let numel = u64::try_from(*numel).ok()?;
                (pickle.text(tag)? == "storage").then_some(Storage { kind, key: pickle.text(key)?, numel })
            }
            _ => None,
        });
        match storage {
            Some(storage) => self.push(Node::Storage(storage)),
            None => malformed("refers to something else than a storage"),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), Fault> {
        self.push_at(node, 0)
    }

    /// Pushes a node with so many levels of containers below it.
    fn push_at(&mut self, node: Node<'a>, depth: u16) -> Result<(), Fault> {
        if self.pickle.nodes.len() >= MOST_NODES {
            return Err(Fault::Refused(format!("its pickle holds more than {MOST_NODES} values")));
        }
        self.stack.push(self.pickle.nodes.len() as Id);
        self.pickle.nodes.push(node);
        self.pickle.depths.push(depth);
        Ok(())
    }

    /// The depth of what holds `children`.
    fn above(&self, children: &[Id]) -> Result<u16, Fault> {
        let depth = children.iter().map(|child| self.pickle.depths[*child as usize] + 1).max().unwrap_or(0);
        self.check_depth(depth.into())?;
        Ok(depth)
    }

    /// Notes that `parent` now holds `children` too.
    fn deepen(&mut self, parent: Id, children: &[Id]) -> Result<(), Fault> {
        let depth = self.above(children)?;
        if parent > FALSE {
            let known = &mut self.pickle.depths[parent as usize];
            *known = depth.max(*known);
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), Fault> {
        if depth <= usize::from(MOST_DEPTH) {
            return Ok(());
        }
        Err(Fault::Refused(format!("its values are nested more than {MOST_DEPTH} deep")))
    }

    /// The lowest height that may be taken from.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Id, Fault> {
        match self.stack.get(self.floor()..) {
            Some([.., top]) => Ok(*top),
            _ => malformed("takes from an empty stack"),
        }
    }

    fn take_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => malformed("lacks a mark"),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).or_else(|_| malformed("holds text that is not UTF-8"))
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    if items.len() % 2 == 1 {
        return malformed("has a key without a value");
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
